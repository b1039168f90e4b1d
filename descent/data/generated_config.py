"""What a recipe's `[data]` table may say of a generated task. The class imports neither torch nor numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from descent.config import Config, Field

__all__ = ["TASKS", "GeneratedData", "Task"]

Task = Literal["copy", "adding", "recall", "parity", "dyck"]
TASKS: dict[Task, dict[str, int]] = {
    "copy": {"symbols": 8, "length": 10, "gap": 100},
    "adding": {"length": 100},
    "recall": {"symbols": 8, "gap": 100},
    "parity": {"length": 32},
    "dyck": {"symbols": 2, "length": 40},
}
"""The sizes of each task, and what they are where nothing is said."""
_LEAST = {"copy": {"symbols": 2}, "recall": {"symbols": 2}, "adding": {"length": 2}, "dyck": {"length": 2}}


class GeneratedData(Config):
    """A task of memory whose examples are computed; a size that is 0 is the task's own (see `TASKS`).

    Attributes:
        task: `copy` some symbols after a gap; `adding` two marked numbers of many; `recall` one symbol from
            behind distractors; `parity` of the bits so far; `dyck`, which bracket has to close next.
        symbols: how many there are to choose from in copy and recall; in dyck the kinds of brackets.
        length: in copy the symbols to be remembered, else the steps of a row (for dyck an even number).
        gap: steps between what is to be remembered and the question, in copy and recall.
        ask: `every` step is answered, or only the `end`: in parity that of all bits, in dyck whether the
            whole row is balanced, where half of the rows have one wrong bracket.
        examples: training rows of one epoch; every epoch has others, so there are as many as are asked for.
        validation: rows held out for validation: the same in every run, whatever its seed.
        test: rows held out for testing.
    """

    type: Literal["generated"] = "generated"
    task: Task = "recall"
    symbols: int = Field(default=0, ge=0, le=10_000)
    length: int = Field(default=0, ge=0, le=100_000)
    gap: int = Field(default=0, ge=0, le=100_000)
    ask: Literal["every", "end"] = "every"
    examples: int = Field(default=10_000, ge=1, le=10_000_000)
    validation: int = Field(default=1000, ge=1, le=1_000_000)
    test: int = Field(default=1000, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _of_the_task(self) -> GeneratedData:
        sizes = self.sizes
        for name in ("symbols", "length", "gap"):
            given, least = getattr(self, name), _LEAST.get(self.task, {}).get(name, 1)
            if given and name not in sizes:
                raise ValueError(f"{name} has no meaning in the task {self.task}: leave it out")
            if given and given < least:
                raise ValueError(f"{name} must be at least {least} in the task {self.task}")
        if self.task == "dyck" and sizes["length"] % 2:
            raise ValueError("length must be even in the task dyck: every bracket that opens has to close")
        if self.ask == "end" and self.task not in ("parity", "dyck"):
            raise ValueError(f"ask=end has no meaning in the task {self.task}")
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes the task has, none of them 0."""
        return {name: getattr(self, name) or usual for name, usual in TASKS[self.task].items()}
