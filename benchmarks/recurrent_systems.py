"""The systems of `benchmarks.recurrent`: an LSTM language model trained by Descent and by plain PyTorch.

All do the same step: embedding, two LSTM layers, a linear head, mean cross-entropy, backward, AdamW.
Descent's is its own loop on what a recipe builds, with every choice left to it; PyTorch's is the shortest
loop there is.

Shapes: B batch, T time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descent.data.config import TextData
from descent.data.dataset import Dataset
from descent.data.lanes import LaneSplit
from descent.generation import prepare
from descent.models import build
from descent.models.gpt import GPTConfig
from descent.models.rnn import RNNConfig
from descent.objectives import CausalConfig
from descent.runs.assemble import put_together
from descent.runs.recipe import Budget, Recipe
from descent.text import TokenizerConfig
from descent.training.loop import train
from descent.training.optimizers import AdamWConfig
from descent.training.precision import tune_allocator

ROWS, LENGTH, DIM, DEPTH, VOCABULARY = 32, 128, 512, 2, 65
RATE = 1e-3


def _tokens(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(VOCABULARY, size=count).astype(np.uint16)


def descent(steps: int, cell: str = "lstm") -> Callable[[], float]:
    """Descent's loop on a recipe whose precision is left to it."""
    tune_allocator()
    recipe = Recipe(
        name="speed",
        data=TextData(source="python-docs", packing="lanes", length=LENGTH),
        tokenizer=TokenizerConfig(kind="char"),
        model=RNNConfig.read({"cell": cell, "depth": DEPTH, "dim": DIM}),
        objective=CausalConfig(),
        optimizer=AdamWConfig(learning_rate=RATE, weight_decay=0.0),
        budget=Budget(steps=1_000_000, batch_size=ROWS),
    )
    split = LaneSplit(_tokens(ROWS * LENGTH * 64 + 1), LENGTH, ROWS)
    dataset = Dataset("noise", {"train": split}, {"vocab_size": VOCABULARY}, "tokens", "")
    parts = put_together(recipe, dataset, None)
    stop = parts.state.step

    def work() -> float:
        nonlocal stop
        stop += steps
        found: list[float] = []
        settings = type(parts.settings)(**{**vars(parts.settings), "steps": stop, "total": 1_000_000})
        train(
            parts.state,
            parts.objective,
            parts.batches.batch,
            settings=settings,
            after_step=lambda report: found.append(report.losses["train"]),
        )
        return found[-1]

    return work


class Plain(nn.Module):
    """`torch.nn.LSTM` or `GRU` between an embedding and a head."""

    def __init__(self, cell: str):
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.tokens = nn.Embedding(VOCABULARY, DIM)
        self.layers = kind(DIM, DIM, DEPTH, batch_first=True)
        self.head = nn.Linear(DIM, VOCABULARY)

    def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.layers(self.tokens(tokens), state)
        return self.head(hidden), state


def plain(steps: int, bf16: bool, cell: str = "lstm") -> Callable[[], float]:
    """The loop of a tutorial: the state carried and detached, fused AdamW, the loss read every step."""
    torch.manual_seed(1)
    model = Plain(cell)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    rows = torch.from_numpy(_tokens(ROWS * (LENGTH * 64 + 1)).astype(np.int64)).view(ROWS, -1)
    place, state = 0, None

    def step() -> float:
        nonlocal place, state
        begin = place % 64 * LENGTH
        place += 1
        tokens, targets = rows[:, begin : begin + LENGTH], rows[:, begin + 1 : begin + LENGTH + 1]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, state = model(tokens, state)
        state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return lambda: [step() for _ in range(steps)][-1]


NETWORKS: dict[str, Any] = {
    "LSTM 2 x 512": RNNConfig(cell="lstm", depth=2, dim=512, vocab_size=VOCABULARY),
    "GRU 2 x 512": RNNConfig(cell="gru", depth=2, dim=512, vocab_size=VOCABULARY),
    "GPT 5 x 256": GPTConfig(depth=5, dim=256, heads=4, context=2112, vocab_size=VOCABULARY),
}
"""Of 3 to 4 million parameters each."""


def one_more(name: str, length: int, steps: int) -> Callable[[], float]:
    """`steps` further tokens, one at a time, after `length` of them were read: seconds of one of them.

    One row, single precision, the model prepared as `generate` does it.
    """
    tune_allocator()
    torch.manual_seed(1)
    model: Any = prepare(build(NETWORKS[name]))
    prompt, token = torch.randint(VOCABULARY, (1, length)), torch.tensor([[1]])

    def work() -> float:
        with torch.inference_mode():
            cache = model.new_cache(1, length + steps)
            model(prompt, cache=cache)
            began = time.perf_counter()
            for _ in range(steps):
                model(token, cache=cache)
            return (time.perf_counter() - began) / steps

    return work


def trained(name: str, length: int, tokens: int) -> Callable[[], None]:
    """Forward and backward of so many tokens in rows of `length`, under bfloat16 autocast."""
    tune_allocator()
    torch.manual_seed(1)
    model: Any = build(NETWORKS[name]).train()
    rows = torch.randint(VOCABULARY, (tokens // length, length))

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(rows)
        F.cross_entropy(logits.flatten(0, 1), rows.flatten()).backward()
        model.zero_grad()

    return work
