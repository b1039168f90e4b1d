"""A trained model in use: text in, text out; an image or a row in, a prediction out."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from descent.config import Config
from descent.data import prepare_image, prepare_row, restore_target
from descent.data.rows import Packing
from descent.errors import UserError
from descent.evaluation import Views, at_home, averaged_logits, class_shares
from descent.generation import BeamSettings, Completion, Settings, beam_search, generate, prepare, stream
from descent.generation.ctc import decode_words
from descent.generation.translate import begin, translate
from descent.runs.answers import KINDS, forecast, heard
from descent.runs.answers_questions import FINDING_KINDS, found_answers
from descent.runs.answers_text import TEXT_KINDS, text_answers
from descent.runs.assemble import Parts
from descent.runs.vectors import as_bert, longest_text, text_vectors
from descent.text import Tokenizer
from descent.text.chat import Chat, Message, as_messages
from descent.weights.export import export
from descent.weights.shards import LARGEST_FILE

Answer = TypeVar("Answer")
Prompt = str | Sequence[Message]
"""A text to go on from, or a conversation to answer."""
NUMBERS = 64 * 3 * 224 * 224
"""The most numbers in a batch of inputs."""


@dataclass(repr=False)
class Loaded:
    """A model with what it takes to use it.

    Attributes:
        model: an `nn.Module`, tensors to tensors, in evaluation mode.
        config: the model's configuration.
        tokenizer: of a language model, else None.
        labels: the names of the classes, in the order of the model's outputs.
        preparation: how an image or a row becomes the model's input.
        loss: what a classifier was trained with; "binary" has one output for two classes.
        name: where it came from.
        defaults: settings of generation that its authors recommend.
        live: whether the weights still change, so that no copy laid out for use may be kept.
        tta: the views of an image whose logits are averaged.
        template: how the model was taught to converse, if it was.
    """

    model: nn.Module
    config: Config
    tokenizer: Tokenizer | None = None
    labels: tuple[str, ...] | None = None
    preparation: Mapping[str, Any] = field(default_factory=dict)
    loss: str = ""
    name: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    live: bool = False
    tta: Views = "none"
    template: Chat | None = None
    _packed: tuple[object, nn.Module] | None = field(default=None, init=False)

    @classmethod
    def of(cls, parts: Parts) -> Loaded:
        """The model of a run in progress."""
        dataset = parts.dataset
        loss = getattr(parts.recipe.objective, "loss", "")
        return cls(
            parts.state.model,
            parts.recipe.model,
            parts.tokenizer,
            dataset.labels,
            dataset.preparation,
            loss,
            parts.recipe.name,
            live=True,
            tta=parts.recipe.evaluation.tta,
        )

    def generate(self, prompt: str = "", *, beams: int = 1, stop: Sequence[str] = (), **settings: Any) -> str:
        """The text that follows a prompt.

        Args:
            prompt: where to start; an empty one starts a new document. For an encoder-decoder, the text
                that it turns into another.
            beams: over 1, the most probable text found by beam search of that width (no sampling).
            stop: texts at which to end; they are not part of the result.
            settings: fields of `descent.generation.Settings`: max_new_tokens, temperature, top_k, top_p,
                min_p, repetition_penalty, seed, sliding.
        """
        return self.complete([prompt], beams=beams, stop=stop, **settings)[0].text

    def chat(self, messages: str | Sequence[Message], *, stop: Sequence[str] = (), **settings: Any) -> str:
        """The answer to a conversation.

        Args:
            messages: what was said, each a mapping of `role` ("system", "user", "assistant") and `content`;
                a text is what a user says first. It stays text, marks it names included.
            stop, settings: as in `generate`.

        Raises:
            UserError: the model has no chat template, or its template refuses these messages.
        """
        said = as_messages(messages)
        return self.complete([said], stop=stop, **settings)[0].text

    def complete(
        self, prompts: Sequence[Prompt], *, beams: int = 1, stop: Sequence[str] = (), **settings: Any
    ) -> list[Completion]:
        """What follows each prompt or conversation, with tokens and their log-probabilities."""
        tokenizer, chosen = self._text(), self._settings(stop, settings)
        if self.translates:
            return translate(
                self._prepared(), self._texts(prompts), tokenizer, chosen, beams=beams, start=self._start
            )
        rows = [self._encode(prompt) for prompt in prompts]
        if beams > 1:
            return self._beams(rows, beams, chosen)
        return generate(self._prepared(), rows, chosen, detokenise=tokenizer.stream)

    def _beams(self, rows: list[list[int]], beams: int, chosen: Settings) -> list[Completion]:
        if chosen.stop:
            raise UserError("beam search ends at token ids, not at texts", hint="leave out stop, or beams")
        found = [best[0] for best in beam_search(self._prepared(), rows, BeamSettings.of(chosen, beams))]
        return [Completion(f.tokens, [], self._text().decode(f.tokens), f.reason) for f in found]

    def stream(self, prompt: Prompt = "", *, stop: Sequence[str] = (), **settings: Any) -> Iterator[str]:
        """Like `generate`, piece by piece as it is written; never half a character."""
        tokenizer, chosen = self._text(), self._settings(stop, settings)
        model, rows = self._prepared(), [self._encode(prompt)]
        if self.translates:
            model, rows = begin(model, self._texts([prompt]), tokenizer, self._start)
        steps = stream(model, rows, chosen, detokenise=tokenizer.stream)
        return (step.text for step in steps if step.text)

    def predict(self, inputs: Sequence[Any] | Any) -> list[dict[str, Any]]:
        """One prediction for each input.

        Args:
            inputs: for images paths or PIL images; for rows mappings of column to value; for sound and series
                paths; for classes of texts texts, for pairs a list of (text, second) or mappings of column to
                text; for the names in a text texts, or lists of words.

        Returns:
            For classes `label`, `probability` and `probabilities`; for numbers `value`, in the units of the
            data; for strings of sounds `text`, `score` and `words`; for series `forecast`, one row a step;
            for the names in a text `words`, `tags` and `entities` (`type`, `text`, and its place: `start`,
            `end`).
        """
        listed = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        found: list[dict[str, Any]] = []
        for prediction in self.predictions(listed):
            if isinstance(prediction, UserError):
                raise prediction
            found.append(prediction)
        return found

    def embed(self, texts: Sequence[str], *, packing: Packing = "documents") -> Tensor:
        """The vector of each text, of length 1, so that products are cosines: (texts, dim), on the CPU.

        It is the mean of a BERT's hidden states over the text's tokens, whatever head it has. A text longer
        than those of training, or than the context where that is not known, is cut at its end.

        Args:
            texts: at least one, none empty.
            packing: "documents" packs several texts into a row, "padded" gives each its own; the vectors are
                the same but for rounding.
        """
        model = as_bert(self.model, self.name)
        return text_vectors(model, self._text(), texts, longest_text(model, self.preparation), packing)[0]

    def predictions(self, inputs: Sequence[Any]) -> Iterator[dict[str, Any] | UserError]:
        """For each input, in order, its prediction, or what was wrong with it; in batches of bounded size."""
        kind = self.preparation.get("kind")
        if kind in KINDS:
            yield from (self._tried(item, self._answer) for item in inputs)
            return
        if kind in TEXT_KINDS:
            yield from text_answers(self.model, self._text(), self.preparation, inputs, self._prediction)
            return
        if kind in FINDING_KINDS:
            yield from found_answers(self.model, self._text(), self.preparation, inputs)
            return
        if kind not in ("table", "images"):
            raise self.unprepared() or UserError(
                f"{self.name or 'this model'} predicts no classes or values", hint=self._use()
            )
        if any(isinstance(item, Mapping) != (kind == "table") for item in inputs):
            given, wanted = ("rows", "images") if kind == "images" else ("images", "rows of a table")
            raise UserError(f"{self.name or 'this model'} predicts from {wanted}", got=given)
        size = math.prod(self.preparation.get("shape") or (len(self.preparation.get("features", ())),))
        count = max(1, min(256, NUMBERS // max(size, 1)))
        for start in range(0, len(inputs), count):
            prepared = [self._tried(item, self._prepare) for item in inputs[start : start + count]]
            good = [item for item in prepared if isinstance(item, Tensor)]
            outputs = iter(self._outputs(torch.stack(good)) if good else ())
            for item in prepared:
                yield self._prediction(next(outputs)) if isinstance(item, Tensor) else item

    def _tried(self, item: Any, use: Callable[[Any], Answer]) -> Answer | UserError:
        try:
            return use(item)
        except UserError as error:
            return error

    def _answer(self, item: Any) -> dict[str, Any]:
        """What is said of one recording, or of what follows a series."""
        if self.preparation["kind"] == "series":
            return forecast(self.model, self.preparation, item)
        outputs, lengths = heard(self.model, self.preparation, item)
        if self.preparation.get("strings"):
            return decode_words(outputs, lengths, self.labels or (), hop=self.preparation["hop"])[0]
        return self._prediction(outputs[0])

    def _outputs(self, batch: Tensor) -> Tensor:
        inputs = at_home(self.model, batch)
        # in bfloat16 the twin rounds elsewhere than the model, and shows it
        model = self._prepared() if inputs.dtype == torch.float32 else self.model
        with torch.inference_mode():
            return averaged_logits(model, inputs, self.tta).cpu()

    @property
    def translates(self) -> bool:
        """Whether it turns a text into another, rather than going on with it."""
        return self.preparation.get("kind") == "pairs"

    def unprepared(self) -> UserError | None:
        """The error for a model of images that came without a word on how they are prepared, if it is one."""
        if self.preparation or len(getattr(self.config, "inputs", ())) != 3:
            return None
        return UserError(
            f"{self.name or 'this model'} does not say how pictures are prepared",
            hint="put its preprocessor_config.json beside config.json, or export it from a run",
        )

    def _fits(self) -> str:
        """What a model that writes no text is asked with."""
        kind = self.preparation.get("kind")
        if kind in ("frames", "voices"):
            return "`descent generate` writes its music to a file"
        asked = {"series": "the file of a series", "sound": "recordings", "table": "rows", "images": "images"}
        return f"use predict with {asked[kind]}" if kind in asked else self._use()

    def _use(self) -> str:
        if self.preparation.get("kind") == "similar":
            return "use embed, or `descent search`"
        return (
            "use generate"
            if self.tokenizer is not None or self.preparation.get("kind") in ("frames", "voices")
            else "it was saved without the way its inputs are prepared"
        )

    def export(self, folder: str | Path, overwrite: bool = False, shard_bytes: int = LARGEST_FILE) -> Path:
        """Writes the model in the Hugging Face layout, with all that `descent.load` needs to use it.

        transformers loads what it has a class for: a GPT of GPT-2's shape, a Llama, a ResNet or a ViT as
        published. Weights of more than `shard_bytes` bytes are written in several files with an index.
        """
        extra = {"labels": self.labels, "preparation": dict(self.preparation), "loss": self.loss}
        extra |= {"tta": self.tta} if self.tta != "none" else {}
        kept = {key: value for key, value in extra.items() if value}
        options: Any = {"overwrite": overwrite, "shard_bytes": shard_bytes, "chat": self.template}
        return export(folder, self.model, self.tokenizer, extra=kept, **options)

    def _prepare(self, item: Any) -> Tensor:
        if self.preparation.get("kind") == "table":
            return prepare_row(self.preparation, item)
        return prepare_image(self.preparation, item)

    def _prediction(self, output: Tensor) -> dict[str, Any]:
        if self.loss in ("cross_entropy", "binary"):
            shares = class_shares(output[None], self.loss)[0]
            labels = self.labels or tuple(str(number) for number in range(len(shares)))
            best = int(shares.argmax())
            probabilities = dict(zip(labels, shares.tolist(), strict=True))
            return {"label": labels[best], "probability": float(shares[best]), "probabilities": probabilities}
        values = [restore_target(self.preparation, value) for value in output.tolist()]
        return {"value": values[0] if len(values) == 1 else values}

    def _prepared(self) -> nn.Module:
        """The model with its weights laid out for use; made anew when they are."""
        if self.live:
            return self.model
        held = chain(self.model.parameters(), self.model.buffers())
        weights = [(t.data_ptr(), 0 if t.is_inference() else t._version, t.dtype, t.device) for t in held]
        if self._packed is None or self._packed[0] != weights:
            self._packed = (weights, prepare(self.model))
        return self._packed[1]

    def _text(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError(
                f"{self.name or 'this model'} writes no text: it has no tokenizer",
                hint=self._fits(),
            )
        return self.tokenizer

    def _encode(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, after the mark that every document began with in training, if one did."""
        if not isinstance(prompt, str):
            return self._template().encode(prompt, self._text())
        ids, start = self._text().encode(prompt), list(self._start or [self._text().end])
        return [*start, *ids] if self.preparation.get("marked") or not ids else ids

    @property
    def _start(self) -> Sequence[int]:
        """What texts began with in training; empty if that was not noted."""
        return self.preparation.get("start") or ()

    def _template(self) -> Chat:
        if self.template is None:
            raise UserError(
                f"{self.name or 'this model'} was not taught to converse: it has no chat template",
                hint="use generate, or put its chat_template.jinja beside config.json",
            )
        return self.template

    def _settings(self, stop: Sequence[str], settings: Mapping[str, Any]) -> Settings:
        tokenizer = self._text()
        given = {
            "temperature": 0.0 if self.translates else 0.8,
            **self.defaults,
            **settings,
            "stop": list(stop),
            "stop_ids": sorted({tokenizer.end, *self.defaults.get("stop_ids", ()), *self._answered()}),
        }
        return Settings.read(given, where="generate")

    def _texts(self, prompts: Sequence[Prompt]) -> list[str]:
        """The prompts of a model that turns one text into another."""
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise UserError(f"{self.name or 'this model'} turns texts into others: it does not converse")
        return [str(prompt) for prompt in prompts]

    def _answered(self) -> list[int]:
        """The mark that ends an answer, if the model converses."""
        ends = [] if self.template is None else [self._text().marks.special.get(self.template.end)]
        return [end for end in ends if end is not None]

    def _facts(self) -> dict[str, str]:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        facts = {"model": type(self.model).__name__, "parameters": f"{count:,}"}
        if self.tokenizer is not None:
            facts["tokenizer"] = repr(self.tokenizer)
        if self.labels:
            facts["classes"] = str(len(self.labels))
        return facts

    def __repr__(self) -> str:
        return f"Loaded({self.name!r}: {', '.join(f'{k} {v}' for k, v in self._facts().items())})"

    def _repr_html_(self) -> str:
        """A small table; every text escaped, nothing fetched."""
        cells = "".join(
            f"<tr><th style='text-align:left'>{key}</th><td>{html.escape(value)}</td></tr>"
            for key, value in self._facts().items()
        )
        return f"<b>{html.escape(self.name)}</b><table>{cells}</table>"
