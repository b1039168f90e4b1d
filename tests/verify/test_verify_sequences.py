"""The contract on models of sequences: every row holds, or says why it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from descent.models import build, config_class
from descent.nn.cache import StateCache
from descent.recipes import resolve
from descent.runs.loaded import Loaded
from descent.runs.run import Run
from descent.runs.train import train
from descent.verify import Row, contract, verify
from descent.verify.measure import random_batch

CACHED, CARRIED = "cached decoding = full forward", "carried state = one long forward"
PACKED, PARTS = "packed rows = padded rows", "accumulated = one batch"
ALWAYS = {"batch of n = n batches of one", "resumed = uninterrupted", "exported and re-loaded = native"}


def text(folder: Path) -> str:
    path = folder / "text.txt"
    path.write_text("\n".join(f"{a}{b} river {b}{a}山" for a in "abcdefghij" for b in "klmnopqrst"), "utf-8")
    return f"data.path={path}"


def series(folder: Path) -> str:
    rng = np.random.default_rng(0)
    lines = [
        f"2024-01-{1 + n // 24:02d} {n % 24:02d}:00,{rng.normal():.3f},{rng.normal():.3f}" for n in range(600)
    ]
    (folder / "series.csv").write_text("\n".join(["time,a,b", *lines]) + "\n", encoding="utf-8")
    return f"data.path={folder / 'series.csv'}"


def recordings(folder: Path) -> str:
    soundfile = pytest.importorskip("soundfile", reason="needs the package soundfile (descent[sound])")
    rng = np.random.default_rng(0)
    for name, hertz in (("low", 300), ("high", 1500)):
        (folder / "sounds" / name).mkdir(parents=True, exist_ok=True)
        for number in range(12):
            times = np.arange(rng.integers(1200, 3200)) / 8000
            wave = 0.5 * np.sin(2 * np.pi * hertz * times) + 0.01 * rng.normal(size=len(times))
            soundfile.write(folder / "sounds" / name / f"{number}.wav", wave, 8000)
    return f"data.path={folder / 'sounds'}"


def pieces(folder: Path) -> str:
    pytest.importorskip("mido", reason="needs the package mido (descent[music])")
    from descent.data.midi import write_midi

    rng = np.random.default_rng(0)
    for number in range(12):
        rolls = {}
        for place, voice in enumerate(("soprano", "alto", "tenor", "bass")):
            rolls[voice] = np.zeros((int(rng.integers(20, 40)) // 4 * 4, 88), dtype=bool)
            keys = rng.integers(50 - 10 * place, 58 - 10 * place, len(rolls[voice]))
            rolls[voice][np.arange(len(keys)), keys] = True
        length = min(len(roll) for roll in rolls.values())
        write_midi(
            folder / "pieces" / f"{number}.mid", {k: v[:length] for k, v in rolls.items()}, 1, tempo=100
        )
    return f"data.path={folder / 'pieces'}"


WORDS = ["tokenizer.kind=char", "samples.max_new_tokens=4", "data.length=12"]
SMALL = ["model.depth=2", "model.dim=8"]
RUNS: dict[str, tuple[str, Callable[[Path], str] | None, list[str], set[str]]] = {
    "lanes": ("lstm", text, [*SMALL, *WORDS, "model.embedding=6"], {CACHED, CARRIED, PACKED}),
    "gru in lanes": ("lstm", text, [*SMALL, *WORDS, "model.cell=gru", "model.embedding=0", "model.tied=true"],
                     {CACHED, CARRIED, PACKED}),
    "documents": ("lstm", text, [*SMALL, *WORDS, "data.document=line", "data.packing=documents",
                                 "model.cell=tanh"], {CACHED, CARRIED, PACKED, PARTS}),
    "recall": ("recall-lstm", None, ["data.gap=9", "model.dim=8"], {CACHED, CARRIED, PACKED, PARTS}),
    "adding": ("adding-lstm", None, ["data.length=20", "model.dim=8"], {PACKED, PARTS}),
    "forecaster": ("lstm-etth1", series, ["data.history=24", "data.horizon=6", "model.patch=4",
                                          "model.dim=8"], {PARTS}),
    "quantiles": ("lstm-etth1", series, ["data.history=24", "data.horizon=6", "model.patch=4", "model.dim=8",
                                         "objective.quantiles=[0.1, 0.5, 0.9]"], {PARTS}),
    "dlinear": ("dlinear-etth1", series, ["data.history=24", "data.horizon=6"], {PARTS}),
    "sound": ("lstm-fsdd", recordings, ["model.dim=8"], {PACKED, PARTS}),
    "convolutions": ("cnn-fsdd", recordings, ["model.channels=8", "model.depth=1"], {PACKED, PARTS}),
    "strings": ("lstm-fsdd-ctc", recordings, [*SMALL, "data.training_strings=40", "data.held_strings=10"],
                {PACKED, PARTS}),
    "frames": ("gru-chorales", pieces, ["data.grid=quarter", "model.dim=8"],
               {CACHED, CARRIED, PACKED, PARTS}),
    "voices": ("lstm-chorales-voices", pieces, ["data.grid=quarter", "model.dim=8", "model.embedding=4"],
               {CACHED, CARRIED, PACKED, PARTS}),
    **{
        f"pairs, {kind}": (
            f"lstm-dates-{kind}", None, ["model.dim=8", "model.embedding=6", "samples.max_new_tokens=4"],
            {CACHED, PACKED, PARTS},
        ) for kind in ("bahdanau", "luong", "none")
    },
}  # fmt: skip
"""The recipe, what writes its data, the changes that make it small, and the rows that apply."""


def trained(kind: str, folder: Path) -> Run:
    name, data, changes, _ = RUNS[kind]
    changes = [*changes, "budget.steps=3", "budget.epochs=0", "budget.batch_size=8", "precision=fp32"]
    changes += [data(folder)] if data else []
    return train(resolve(name, changes), out=folder / "run", quiet=True)


@pytest.mark.parametrize("kind", RUNS)
def test_the_contract_holds(kind: str, tmp_path: Path) -> None:
    rows = verify(trained(kind, tmp_path))
    assert [row for row in rows if not row.ok] == []
    applying = {row.name for row in rows if row.worst is not None}
    assert applying == ALWAYS | RUNS[kind][3]
    assert all(row.note for row in rows)


def rows_of(model: Any) -> dict[str, Row]:
    return {row.name: row for row in verify(Loaded(model.eval(), model.config))}


BUILT: dict[str, tuple[dict[str, Any], set[str]]] = {
    "rnn": ({"vocab_size": 9, "dim": 8}, {CACHED, CARRIED, PACKED}),
    "rnn of features": ({"inputs": [5], "outputs": 3, "dim": 8}, {CACHED, CARRIED, PACKED}),
    "rnn that tags": ({"inputs": [5], "outputs": 3, "dim": 8, "bidirectional": True}, {PACKED}),
    "rnn that classifies": ({"vocab_size": 9, "outputs": 3, "dim": 8, "pool": "max"}, {PACKED}),
    "dscnn": ({"inputs": [40], "outputs": 3, "channels": 8, "depth": 1}, {PACKED}),
    "forecaster": ({"channels": 3, "outputs": 2, "known": 1, "horizon": 4, "dim": 8}, set()),
    "dlinear": ({"channels": 3, "outputs": 2, "history": 30, "horizon": 4}, set()),
    "seq2seq": ({"vocab_size": 9, "dim": 8}, {CACHED, PACKED}),
    "gpt": ({"vocab_size": 9, "dim": 16, "heads": 2, "depth": 1, "context": 16},
            {CACHED, PACKED, "fused attention = weights-returning"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILT)
def test_a_model_without_data_is_shown_random_rows(name: str) -> None:
    sizes, applying = BUILT[name]
    torch.manual_seed(0)
    rows = rows_of(build(config_class(name.split()[0]).read(sizes)))
    assert [row for row in rows.values() if not row.ok] == []
    expected = applying | {"batch of n = n batches of one", "exported and re-loaded = native"}
    assert {name for name, row in rows.items() if row.worst is not None} == expected


def a_model(**changes: Any) -> Any:
    torch.manual_seed(0)
    model = build(config_class("rnn").read({"vocab_size": 9, "dim": 8, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def test_a_state_that_is_not_handed_on_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    own = StateCache.advance

    def forgets(cache: StateCache, state: dict[str, Tensor], count: int) -> None:
        own(cache, {name: torch.zeros_like(value) for name, value in state.items()}, count)

    monkeypatch.setattr(StateCache, "advance", forgets)
    rows = rows_of(a_model())
    assert not rows[CARRIED].ok
    assert not rows[CACHED].ok
    assert rows[PACKED].ok


def test_padding_that_is_read_and_documents_that_are_not_parted_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in ({"pool": "last"}, {"pool": "mean", "bidirectional": True}, {}):
        model = a_model(**changes)
        own = model.recurrent.forward
        monkeypatch.setattr(
            model.recurrent, "forward", lambda *a, lengths=None, resets=None, own=own: own(*a)
        )
        assert not rows_of(model)[PACKED].ok


def test_lanes_that_do_not_follow_one_another_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("lanes", tmp_path)
    monkeypatch.setattr("descent.data.lanes.LaneSplit.ordered", False)
    stage = contract.Stage(run)
    model = run.load().model.eval()
    worst, _ = contract.decoding.carried(model, stage.examples(), stage.parts.batches)
    assert worst > contract.DECIMALS


def test_random_rows_are_the_same_each_time() -> None:
    model = a_model(pool="last", outputs=2)
    first, second = random_batch(model), random_batch(model)
    assert first["lengths"].tolist() == [24, 16, 8]
    assert torch.equal(first["inputs"], second["inputs"])
