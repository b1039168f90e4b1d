"""Sequences as the views of recurrent networks take them: a text or an example of a run's data, as one batch.

Legend: B rows, T steps, D numbers that a step is embedded in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from descent.data.pairs import source_ids
from descent.errors import UserError
from descent.explain.probes import at_rest
from descent.objectives.objective import Batch, model_inputs

if TYPE_CHECKING:
    from descent.data.dataset import Split
    from descent.runs.loaded import Loaded
    from descent.text import Tokenizer

__all__ = [
    "MARK",
    "Embedded",
    "Steps",
    "answers",
    "embedding",
    "pieces_of",
    "steps_of_example",
    "steps_of_file",
    "steps_of_text",
]

MARK = "¶"
"""How a mark between documents is shown."""
READ_FIRST = ("source", "tokens", "inputs", "history")
"""Names of what a model reads over time, the first that a batch has."""
SAMPLE = 240
"""Tokens of the data that are taken where no text is given."""


@dataclass(frozen=True)
class Steps:
    """One sequence.

    Attributes:
        batch: of one row, as the model takes it; with `targets` where they are known.
        pieces: what the steps of a text read, one each; empty where a character is not yet complete.
        name: where it comes from.
    """

    batch: Batch
    pieces: tuple[str, ...] = ()
    name: str = ""


def steps_of_text(loaded: Loaded, text: str) -> Steps:
    """A text as the model was taught to read one, its mark before it if there was one.

    Raises:
        UserError: the model reads no text, or the text is empty.
    """
    if loaded.tokenizer is None:
        raise UserError(
            f"{loaded.name or 'this model'} reads no text", hint="name an example of its data, such as test:0"
        )
    ids = loaded.tokenizer.encode(text)
    if not ids:
        raise UserError("there is no text to explain", expected="one character or more")
    if loaded.preparation.get("kind") == "pairs":
        return _source(loaded.tokenizer, source_ids(text, loaded.tokenizer), loaded.preparation["start"])
    start = list(loaded.preparation.get("start") or ()) if loaded.preparation.get("marked") else []
    ids = [*start, *ids]
    return Steps({"tokens": torch.tensor([ids])}, pieces_of(loaded.tokenizer, ids), "the given text")


def _source(tokenizer: Tokenizer, ids: list[int], start: list[int]) -> Steps:
    """What an encoder reads, before a decoder that has written nothing."""
    batch = {
        "source": torch.tensor([ids]),
        "source_lengths": torch.tensor([len(ids)]),
        "tokens": torch.tensor([start]),
    }
    return Steps(batch, pieces_of(tokenizer, ids), "the given text")


def steps_of_file(loaded: Loaded, path: Path) -> Steps:
    """A recording, or a table whose last rows a series goes on from, as the model takes it.

    Raises:
        UserError: the model takes neither, or the file cannot be used.
    """
    kind = loaded.preparation.get("kind")
    if kind == "sound":
        from descent.data.sound import prepare_clip

        return Steps(prepare_clip(loaded.preparation, path), (), path.name)
    if kind == "series":
        from descent.data.series_new import prepare_series

        return Steps(prepare_series(loaded.preparation, path).batch(), (), path.name)
    raise UserError(
        f"{loaded.name or 'this model'} reads no such file",
        got=str(path),
        expected='an example of its data such as test:0, or --text "..."',
    )


def steps_of_example(split: Split, number: int, tokenizer: Tokenizer | None = None, name: str = "") -> Steps:
    """An example of a split. Of a row with several documents only the first is taken."""
    batch = split.gather(np.array([number]))
    if "tokens" not in batch or tokenizer is None or "source" in batch:
        ids = batch.get("source")
        read = () if ids is None or tokenizer is None else pieces_of(tokenizer, ids[0].tolist())
        return Steps(batch, read, name)
    count = min(SAMPLE, batch["tokens"].shape[1])
    if "documents" in batch:
        count = min(count, int((batch["documents"][0] == batch["documents"][0, 0]).sum()))
    if "targets" in batch:  # a row that is padded ends with targets nobody counts
        real = (batch["targets"][0] >= 0).nonzero()
        count = min(count, int(real.max()) + 1) if len(real) else count
    kept = {key: batch[key][:, :count] for key in ("tokens", "targets") if key in batch}
    return Steps(kept, pieces_of(tokenizer, kept["tokens"][0].tolist()), name)


def pieces_of(tokenizer: Tokenizer, ids: list[int]) -> tuple[str, ...]:
    """The characters that each token completes: of one that takes several tokens, they stand at its last."""
    stream = tokenizer.stream()
    found = [stream.push(index) if tokenizer.token_bytes(index) else MARK for index in ids]
    return (*found[:-1], found[-1] + stream.finish())


def answers(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """What a model says to a batch, whatever kind of batch it is."""
    given = model_inputs(dict(batch))
    if "tokens" in given and "source" not in given:  # a language model's first argument, however it is called
        return model(given.pop("tokens"), **given)
    return model(**given)


@dataclass
class Embedded:
    """A forward pass that starts from what the model reads, embedded.

    Attributes:
        name: of what it reads, in the batch.
        outputs: the model's.
        leaf: (B, T, D), of which gradients can be taken.
    """

    name: str
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    leaf: Tensor = field(default_factory=lambda: torch.empty(0))


@contextmanager
def embedding(model: nn.Module, batch: Mapping[str, Tensor], *over: str) -> Iterator[Embedded]:
    """Runs a model at rest on a batch; inside the block gradients by its embedded input can be taken.

    Tokens are taken where their embedding ends, features as they are; the parameters take no gradient.

    Args:
        model: reads tokens or features, one a step.
        batch: as the model takes it.
        over: names of what may be read, the first that the batch has.

    Raises:
        UserError: the model reads no sequence.
    """
    name = next((name for name in over or READ_FIRST if name in batch), "")
    if not name or batch[name].dim() not in (2, 3):
        raise UserError(
            f"a {type(model).__name__} reads no sequence", hint="give a run over text or over time"
        )
    home = next(model.parameters()).device
    moved = {key: value.detach().clone().to(home) for key, value in batch.items()}
    found, handles = Embedded(name), []
    if moved[name].is_floating_point():
        found.leaf = moved[name].requires_grad_(True)
    else:
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        handles = [table.register_forward_hook(_tap(found, moved[name])) for table in tables]
    try:
        # cuDNN takes gradients of recurrent layers in training alone
        with at_rest(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            found.outputs = answers(model, moved).float()
            if not found.leaf.numel():
                raise UserError(f"a {type(model).__name__} embeds no tokens", hint="give a run over text")
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _tap(found: Embedded, tokens: Tensor) -> Any:
    """A hook that puts a leaf in the place of what the first table gives for these tokens."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        ids = inputs[0]
        if found.leaf.numel() or ids.shape != tokens.shape or not torch.equal(ids, tokens):
            return None
        found.leaf = output.detach().requires_grad_(True)
        return found.leaf

    return hook
