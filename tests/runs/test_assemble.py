"""What is set up before the first step: weights taken from the data, and how they lie in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from descent.models.airbench import Airbench
from descent.recipes import resolve
from descent.runs.assemble import assemble, load_data
from descent.text import train
from descent.text.unknown import unknown_share


def folder_by_class(root: Path) -> Path:
    """Two classes whose patches differ: smooth ones, and noise."""
    random = np.random.default_rng(1)
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(30):
            grain = (16, 16, 3) if label == "b" else (1, 1, 3)
            pixels = random.integers(0, 256, grain, dtype=np.uint8) + np.zeros((16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


def test_a_model_that_looks_at_data_sees_every_class_and_only_training_images(
    tmp_path: Path, monkeypatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("descent.runs.assemble.LOOK", 10)
    monkeypatch.setattr(Airbench, "initialise", lambda self, inputs: seen.append(inputs))
    recipe = resolve("airbench-cifar", [f"data.path={folder_by_class(tmp_path / 'p')}", "data.augment=none"])
    parts = assemble(recipe)
    train = parts.dataset.splits["train"]
    inputs = train.gather(np.arange(len(train)))["inputs"]
    found = [int((image == inputs).flatten(1).all(1).nonzero()[0]) for image in seen[0]]
    labels = train.gather(np.array(found))["targets"]
    assert len(found) == 10
    assert sorted(set(labels.tolist())) == [0, 1]


def test_the_kernels_of_convolutions_lie_with_the_channels_last(tmp_path: Path) -> None:
    recipe = resolve("resnet-cifar", [f"data.path={folder_by_class(tmp_path / 'p')}"])
    model = assemble(recipe).state.model
    kernels = [module.weight for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(kernels) == 19
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_characters_that_are_lost_are_said(tmp_path: Path) -> None:
    texts = ["云" * 40 + chr(0x4E00 + number) for number in range(40)]
    (tmp_path / "own.txt").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "labelled.tsv").write_text(
        "".join(f"{text}\t{'yn'[number % 2]}\n" for number, text in enumerate(texts)), encoding="utf-8"
    )
    for name, file in (("gpt-poetry", "own.txt"), ("bert-sst2", "labelled.tsv")):
        changes = [f"data.path={tmp_path / file}", "tokenizer.kind=char"]
        whole, _ = load_data(resolve(name, changes))
        assert "unknown" not in whole.summary()
        cut, tokenizer = load_data(resolve(name, [*changes, "tokenizer.vocab_size=20"]))
        assert "% of the training tokens are unknown to the tokenizer" in cut.summary()
        assert (tokenizer.vocab_size, cut.fingerprint != whole.fingerprint) == (20, True)  # type: ignore[union-attr]


def test_the_share_of_unknown_tokens() -> None:
    tokenizer = train("char", ["aaab"], 4)
    assert tokenizer.unknown == tokenizer.encode("c")[0]
    assert unknown_share(tokenizer, ["aabb", "ac"]) == 1 / 6
    assert unknown_share(tokenizer, ["a" * 70_000, "cc"]) == 2 / 70_002
    assert unknown_share(tokenizer, []) == 0
    assert unknown_share(train("wordpiece", ["a text"], 520), ["山水"]) == 0
    share = unknown_share(tokenizer, ["a" * 2**22 + "c" * 2**22])
    assert abs(share - 0.5) < 0.02
