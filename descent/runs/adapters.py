"""Adapters saved without their base, and put on it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from torch import Tensor, nn

from descent.config import Config
from descent.errors import CorruptArtifact, UserError
from descent.evaluation import Views
from descent.models import MODELS, build, config_class
from descent.nn.lora import adapted_layers, adapter_state, add_lora, load_adapter, merge_lora
from descent.runs.folder import read_json
from descent.runs.noted import checked_preparation
from descent.weights import safetensors_file
from descent.weights.adapter import ABOUT, AdapterAbout, read_adapter, tensors_hash, write_adapter

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded
    from descent.runs.run import Run, Which

__all__ = ["adapt_loaded", "export_adapter"]

SHOWN = 6


def export_adapter(run: Run, folder: Path | str, which: Which = "best") -> Path:
    """Writes what a run trained beside its base, and nothing of the base; returns the folder.

    Args:
        run: one with a `[adapter]` table.
        folder: must not exist, or be empty.
        which: the checkpoint, as in `Run.load`.

    Raises:
        UserError: the run trained no adapter, or the folder cannot be written.
    """
    recipe = run.recipe
    if recipe.adapter is None or recipe.transfer is None:
        raise UserError(
            f"{run.folder} trained no adapter but the whole model",
            hint=f"`descent export {run.folder}` writes that; adapter.rank=8 trains an adapter",
        )
    model = run.weighted(which)
    trained, own = adapter_state(model), model.state_dict()
    layers = list(adapted_layers(model))
    drawn = {name: own[name] for name in _drawn(run) if name in own and name not in trained}
    frozen = {name: t for name, t in own.items() if name not in trained and name not in drawn}
    loaded = run.load(which)
    extra = {"labels": list(loaded.labels or ()), "preparation": dict(loaded.preparation)}
    extra |= {"loss": loaded.loss, "tta": loaded.tta}
    about = {
        "base": recipe.transfer.weights,
        "base_sha256": tensors_hash(frozen),
        "rank": recipe.adapter.rank,
        "alpha": recipe.adapter.alpha,
        "targets": layers,
        "trained": [name for name in trained if not name.endswith((".lora_down", ".lora_up"))],
        "drawn": list(drawn),
        "model": recipe.model.table(),
        "tokenizer": "" if loaded.tokenizer is None else loaded.tokenizer.fingerprint,
        "extra": {name: value for name, value in extra.items() if value},
    }
    return write_adapter(folder, {**trained, **drawn}, about)


def _drawn(run: Run) -> list[str]:
    """The tensors that the run did not take from its base, by what was noted when it, or the run that it was
    forked from, began."""
    folder, facts = run.folder, read_json(run.folder / "env.json")
    while "transfer" not in facts and "parent" in facts:
        folder = Path(facts["parent"])
        facts = read_json(folder / "env.json")
    if "transfer" not in facts:
        raise UserError(
            f"{run.folder} does not say what it took from its base",
            hint=f"{folder}/env.json is missing: export the whole model, without --adapter",
        )
    noted = facts["transfer"]
    return [*noted.get("head", ()), *(reason.partition(":")[0] for reason in noted.get("drawn", ()))]


def adapt_loaded(loaded: Loaded, folder: Path | str) -> Loaded:
    """A base with an adapter put on and merged: one plain model again, for the adapter's task.

    Args:
        loaded: the base, in single precision; it is left as it is.
        folder: what `export_adapter` wrote.

    Raises:
        UserError: the folder holds no adapter, or one of another base.
        CorruptArtifact: a file of it is damaged, or does not hold what it says.
    """
    state, about = read_adapter(folder)
    where = str(Path(folder) / ABOUT)
    config = _config(about, where)
    fingerprint = "" if loaded.tokenizer is None else loaded.tokenizer.fingerprint
    if fingerprint != about.tokenizer:
        raise _another(loaded, about, ["its tokenizer is another"])
    model = build(config)
    _fill(model, loaded, state, about)
    _adapt(model, state, about, where)
    preparation = checked_preparation(about.extra, config, where)
    tta = about.extra.get("tta")
    return dataclasses.replace(
        loaded,
        model=model.eval(),
        config=config,
        labels=tuple(about.extra.get("labels") or ()) or None,
        preparation=preparation,
        loss=about.extra.get("loss") or "",
        tta=tta if tta in get_args(Views) else "none",
    )


def _config(about: AdapterAbout, where: str) -> Config:
    """The configuration of the adapted model."""
    kind = about.model.get("type")
    if kind not in MODELS:
        raise CorruptArtifact(f"{where}: model.type", got=kind, expected="one of " + ", ".join(MODELS))
    try:
        return config_class(str(kind)).read(about.model, where=f"{where}: model")
    except UserError as error:
        raise CorruptArtifact(str(error)) from None


def _fill(model: nn.Module, loaded: Loaded, state: Mapping[str, Tensor], about: AdapterAbout) -> None:
    """Copies into a plain model what the adapter takes from the base, and what neither of them trained."""
    own, base = model.state_dict(), dict(loaded.model.state_dict())
    adapt: Any = getattr(model, "adapt", None)
    if adapt is not None:  # as when the adapter was trained: see `transfer.take`
        base = adapt(base, getattr(loaded.config, "grid", None))
    frozen = [name for name in own if name not in about.trained and name not in about.drawn]
    wrong = [
        f"{name}: {_size(base.get(name))}, expected {_size(own[name])}"
        for name in frozen
        if name not in base or base[name].shape != own[name].shape
    ]
    if wrong:
        raise _another(loaded, about, wrong)
    taken = {name: base[name] for name in frozen}
    if tensors_hash(taken) != about.base_sha256:
        raise _another(loaded, about, ["its weights are others"])
    lacking = [n for n in about.drawn if n not in own or n not in state or state[n].shape != own[n].shape]
    if lacking:
        raise CorruptArtifact(f"the adapter lacks what it says to hold: {', '.join(lacking[:SHOWN])}")
    safetensors_file.copy_into(own, {**taken, **{name: state[name] for name in about.drawn}})


def _adapt(model: nn.Module, state: Mapping[str, Tensor], about: AdapterAbout, where: str) -> None:
    """Puts the adapter on and merges it."""
    try:
        layers = add_lora(model, about.rank, about.alpha, targets=about.targets, trained=about.trained)
    except UserError as error:
        raise CorruptArtifact(f"{where}: {error}") from None
    own = adapter_state(model)
    given = {name: tensor for name, tensor in state.items() if name not in about.drawn}
    wrong = [f"{layer}: adapted, but not listed" for layer in layers if layer not in about.targets]
    wrong += [f"{name}: missing" for name in own if name not in given]
    wrong += [f"{name}: not expected" for name in given if name not in own]
    wrong += [
        f"{name}: {_size(given[name])}, expected {_size(own[name])}"
        for name in own.keys() & given.keys()
        if given[name].shape != own[name].shape
    ]
    if wrong:
        raise CorruptArtifact(
            f"{where} and the weights beside it do not belong together" + _listed(sorted(wrong))
        )
    load_adapter(model, given)
    merge_lora(model)


def _another(loaded: Loaded, about: AdapterAbout, wrong: Sequence[str]) -> UserError:
    return UserError(
        f"{loaded.name or 'this model'} is not the base of this adapter" + _listed(wrong),
        expected=f"the model it was trained on: {about.base}",
    )


def _listed(wrong: Sequence[str]) -> str:
    more = [f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    return "".join(f"\n  {line}" for line in [*wrong[:SHOWN], *more])


def _size(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "scalar"
