"""What a `[data]` table of type "tasks" may say. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from descent.config import Config, Field, Items
from descent.data.config import Sourced

__all__ = ["FORMS", "Task", "TasksData"]

FORMS = ("sentences", "entities", "questions", "ranking", "pairs")


class Task(Sourced):
    """A labelled set as texts and what each becomes. In a list of tasks `"sst2"` is short for its source.

    Attributes:
        source: a registered set; of questions also several joined by `+`.
        path: the user's own file or folder, as data of that `form` read it.
        form: the kind of data that an own file is; of a registered set it is known. Any texts and what each
            becomes (translations, summaries) are `pairs`.
        name: of the task's metrics, and the first word of every source; empty = the source's or the file's.
        marks: what stands before each text of a source, and perhaps behind the last, in place of the usual
            words: `["summarize:"]`.
        words: what is written for a label, where it is not the label itself.
        options: of that kind of data, such as `{text = "body", label = "stars"}` or `{reverse = true}`.
        interpolate: mix the order that the model gives to documents with that of the first stage, by the
            weight that is best on the validation split; for ranking.
    """

    form: Literal["", "sentences", "entities", "questions", "ranking", "pairs"] = ""
    name: str = ""
    marks: Items[str] = ()
    words: dict[str, str] = Field(default_factory=dict)
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    interpolate: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _own_form(self) -> Self:
        if self.path is not None and not self.form:
            raise ValueError(f"say which form the file of a task has: {', '.join(FORMS)}")
        return self


class TasksData(Config):
    """Several labelled sets, each as texts and what each becomes, for one encoder-decoder.

    Attributes:
        tasks: what is learned together: names of sets, or tables (see `Task`).
        length: the most tokens of a source, its end mark included, and of a packed row; a longer text is
            cut, the text of a question is read in windows.
        target_length: the most tokens of what is written.
        packing: "documents" puts several examples in a row, none of which sees another; "padded" one.
        temperature: tasks are drawn in proportion to n^(1 / temperature) for n training examples: 1 = as
            many as there are, more evens them out.
        limit: the most examples that a task counts for there; 0 = no limit.
        scored: the most validation examples of a task, by a fixed shuffle; 0 = all. The test is always whole.
    """

    type: Literal["tasks"] = "tasks"
    tasks: Items[Task] = Field(min_length=1)
    length: int = Field(default=256, ge=16, le=65536)
    target_length: int = Field(default=64, ge=4, le=65536)
    packing: Literal["documents", "padded"] = "documents"
    temperature: float = Field(default=1.0, ge=1)
    limit: int = Field(default=0, ge=0)
    scored: int = Field(default=500, ge=0)
