"""Transfer: a new run that starts from the weights of a model trained before.

    source (run, folder, hub name, .safetensors) -> its shape -> recipe -> parts <- the source's weights

The network is the source's; what follows from the data (inputs, outputs) is the data's. A head is drawn
anew unless its classes stay what they were. Once the first checkpoint is written, nothing needs the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from descent.config import Config
from descent.data.config import ImageData
from descent.errors import UserError
from descent.runs.assemble import Parts, assemble, load_data, put_together
from descent.runs.layout import is_run
from descent.runs.load import load
from descent.runs.normalisation import check_channels
from descent.runs.overrides import TASK, data_sizes
from descent.runs.recipe import Recipe
from descent.runs.run import Run
from descent.text import Tokenizer
from descent.training.layers import TABLES, head_of, inside
from descent.training.state import hash_tensors
from descent.weights import safetensors_file
from descent.weights.names import published_file

SUFFIX = ".safetensors"
SHOWN = 6


@dataclass(frozen=True)
class Source:
    """What trained weights are and were for.

    Attributes:
        name: where they were read from.
        state: by our names.
        config: of the model; None for a bare file of weights.
        labels, preparation, tokenizer: of the data they were trained on, as far as known.
        tokens: the `[tokenizer]` table that belongs to the tokenizer.
    """

    name: str
    state: Mapping[str, Tensor]
    config: Config | None = None
    labels: tuple[str, ...] | None = None
    preparation: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    tokens: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Taken:
    """Which tensors of a model came from a source.

    Attributes:
        source: where they were read from.
        sha256: of the tensors that were taken.
        taken: how many there are.
        head: those of the head that were drawn anew.
        drawn: others that were, as the source has none of that name and shape; each with the reason.
        unused: what the source has beside these.
    """

    source: str
    sha256: str
    taken: int
    head: tuple[str, ...]
    drawn: tuple[str, ...]
    unused: tuple[str, ...]

    def table(self) -> dict[str, Any]:
        lists = {"head": list(self.head), "drawn": list(self.drawn), "unused": list(self.unused)}
        return {"source": self.source, "sha256": self.sha256, "taken": self.taken, **lists}

    def lines(self) -> list[str]:
        """The facts, one a line, for the head of a run's progress."""
        lines = [f"weights    {self.taken} tensors from {self.source}"]
        if self.head:
            lines.append(f"drawn anew {', '.join(self.head)} (the head)")
        lines += [f"drawn anew {reason}" for reason in _few(self.drawn)]
        return lines + [f"not used   {name}" for name in _few(self.unused)]


def begin(recipe: Recipe, progress: bool = False) -> tuple[Parts, Taken | None]:
    """The parts of a new run, filled with the weights it starts from, if it names any.

    Args:
        recipe: what to build; its `transfer` says from what.
        progress: show downloads and the tokenizer's training on stderr.

    Raises:
        UserError: there are no such weights, or they do not fit the recipe.
        CorruptArtifact: a file of theirs is damaged.
    """
    if recipe.transfer is None:
        return assemble(recipe, progress=progress), None
    source = read_source(recipe.transfer.weights)
    asked = _differing(recipe, source)
    recipe = adopted(recipe, source)
    dataset, tokenizer = load_data(recipe, source.tokenizer, progress)
    inputs = getattr(source.config, "inputs", ())
    if len(inputs) == 3 and dataset.preparation.get("kind") == "images":
        check_channels(dataset, inputs[0])
    parts = put_together(recipe, dataset, tokenizer)
    return parts, take(parts, source, asked)


def read_source(where: str) -> Source:
    """The weights that `model.weights` names; see `Transfer.weights`."""
    path = Path(where).expanduser()
    if path.suffix == SUFFIX and published_file(where) is None:
        return Source(where, safetensors_file.read(path))
    found = load(path if path.exists() else where)
    tokens = Run(path).recipe.tokenizer if is_run(path) else None
    return Source(
        where,
        found.model.state_dict(),
        found.config,
        found.labels,
        found.preparation,
        found.tokenizer,
        tokens.table() if tokens else None,
    )


def adopted(recipe: Recipe, source: Source) -> Recipe:
    """The recipe with the source's network, normalisation and tokenizer, and own images of the source's size.

    What the recipe itself asks of the model and of its images stands; sizes that follow from data are left to
    the data.

    Raises:
        UserError: the source is another network, or the recipe's data are not of its kind.
    """
    transfer = recipe.transfer
    assert transfer is not None
    asked = {name: value for name, value in recipe.model.table().items() if name in _asked(recipe)}
    is_text = recipe.tokenizer is not None
    if is_text and source.tokenizer is None:
        raise UserError(
            f"{source.name} has no tokenizer, without which its weights mean nothing for text",
            hint="give the run, or the folder that holds tokenizer.json",
        )
    if not transfer.mean and source.preparation.get("kind") == "images" and not is_text:
        known = {name: list(source.preparation[name]) for name in ("mean", "std")}
        recipe = recipe.replace(transfer=transfer.replace(**known).table())
    recipe = _sized(recipe, source.preparation)
    if source.tokens is not None:
        recipe = recipe.replace(tokenizer=source.tokens)
    if source.config is None:
        return recipe
    has, wants = getattr(source.config, "type", None), recipe.model.type
    if has != wants:
        raise UserError(
            f"{source.name} is another network than the recipe's",
            got=has,
            expected=wants,
            hint=f"model.type={has} asks for that one",
        )
    held = source.config.table()
    shape = {name: value for name, value in held.items() if name not in data_sizes(held["type"])}
    return recipe.replace(model={**shape, **asked})


def _sized(recipe: Recipe, preparation: Mapping[str, Any]) -> Recipe:
    """The recipe with own images, of whose size it does not speak, brought to that of the source's."""
    data = recipe.data
    if not isinstance(data, ImageData) or data.path is None or data.size or "shape" not in preparation:
        return recipe
    return recipe.replace(data=data.replace(size=preparation["shape"][1:]).table())


def take(parts: Parts, source: Source, asked: Mapping[str, tuple[object, object]] | None = None) -> Taken:
    """Copies into the model every tensor of the source whose name and shape fit, but a head that is new.

    Args:
        parts: of a run that has not begun.
        source: the weights.
        asked: options of the model the recipe set otherwise than the source: (source's, recipe's).

    Raises:
        UserError: `head = "keep"` and the head does not fit; the recipe's own options change the network's
            shape; or less than half of the weights fit.
    """
    model, choice = parts.state.model, parts.recipe.transfer
    assert choice is not None
    own, state = model.state_dict(), dict(source.state)
    adapt: Any = getattr(model, "adapt", None)
    if adapt is not None:  # a model that can turn weights of another size of input into its own does so
        state = adapt(state, getattr(source.config, "grid", None))
    head = head_of(model)
    new = () if _keeps_head(parts, source, state, head) else tuple(n for n in own if inside(n, head))
    fitting = {n: state[n] for n in own if n not in new and n in state and state[n].shape == own[n].shape}
    drawn = tuple(_reason(n, own[n], state.get(n)) for n in own if n not in (*new, *fitting))
    unused = tuple(n for n in state if n not in own)
    if asked and (drawn or unused):
        raise _reshaped(source, asked)
    counts = {name: parameter.numel() for name, parameter in model.named_parameters() if name not in new}
    fit = sum(count for name, count in counts.items() if name in fitting)
    if not fit or 2 * fit < sum(counts.values()):
        raise _too_little(source, parts, fit, sum(counts.values()), drawn)
    safetensors_file.copy_into(own, fitting)
    if parts.state.average is not None:
        safetensors_file.copy_into(parts.state.average.tensors, dict(model.named_parameters()))
    digest = hashlib.sha256()
    hash_tensors(digest, "model", fitting)
    return Taken(source.name, digest.hexdigest(), len(fitting), new, drawn, unused)


def _asked(recipe: Recipe) -> set[str]:
    """Options of the model that the recipe itself sets."""
    return recipe.model.model_fields_set - {"type"}


def _differing(recipe: Recipe, source: Source) -> dict[str, tuple[object, object]]:
    """Options the recipe sets otherwise than the source: (source's, recipe's).

    Not what follows from data, and not what the model answers: another head is what transfer is for.
    """
    if source.config is None:
        return {}
    both = {
        name: (getattr(source.config, name, None), getattr(recipe.model, name)) for name in _asked(recipe)
    }
    free = (*data_sizes(recipe.model.type), *TASK)
    return {name: pair for name, pair in both.items() if name not in free and pair[0] != pair[1]}


def _keeps_head(parts: Parts, source: Source, state: Mapping[str, Tensor], head: str) -> bool:
    model, choice = parts.state.model, parts.recipe.transfer
    assert choice is not None
    if choice.head == "new" and isinstance(model.get_submodule(head), TABLES):
        raise UserError(
            "transfer.head=new: this model has no head of its own, its token embedding is the head",
            hint="leave transfer.head out",
        )
    own = {name: tensor for name, tensor in model.state_dict().items() if inside(name, head)}
    wrong = [
        _reason(n, t, state.get(n)) for n, t in own.items() if n not in state or state[n].shape != t.shape
    ]
    if choice.head == "keep" and wrong:
        raise UserError(
            f"the head of {source.name} does not fit and cannot be kept",
            got=wrong[0],
            hint="transfer.head=new draws one for the new classes",
        )
    labels = parts.dataset.labels
    if labels is None and parts.tokenizer is not None:  # the outputs are tokens, and the tokenizer came along
        same = True
    else:
        same = labels is not None and labels == source.labels
    return choice.head == "keep" or (choice.head == "auto" and same and not wrong)


def _reason(name: str, own: Tensor, other: Tensor | None) -> str:
    if other is None:
        return f"{name}: not in the source"
    return f"{name}: {_size(other)} in the source, {_size(own)} here"


def _reshaped(source: Source, asked: Mapping[str, tuple[object, object]]) -> UserError:
    def listed(side: int) -> str:
        values = {name: pair[side] for name, pair in asked.items()}
        shown = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return ", ".join(f"model.{name}={value}" for name, value in shown.items())

    return UserError(
        f"these options give the model another shape than {source.name} has",
        got=listed(1),
        expected=listed(0),
        hint="leave them out: the network is that of the weights",
    )


def _too_little(source: Source, parts: Parts, fit: int, whole: int, drawn: tuple[str, ...]) -> UserError:
    inputs = getattr(source.config, "inputs", ())
    hint = "give weights of a network of this shape"
    if len(inputs) == 3 and tuple(inputs) != tuple(parts.dataset.sizes.get("inputs", inputs)):
        hint = f"data.size=[{inputs[1]}, {inputs[2]}] brings the images to the size the weights are for"
    problems = "".join(f"\n  {reason}" for reason in _few(drawn))
    return UserError(
        f"{source.name} does not fit the model: {fit:,} of {whole:,} weights{problems}",
        expected="at least half of those below the head",
        hint=hint,
    )


def _few(names: tuple[str, ...]) -> list[str]:
    more = [f"... and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return [*names[:SHOWN], *more]


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
