"""The systems that train in `benchmarks.training`: Descent, nanoGPT and transformers on the same network.

All of them do the same step: forward, mean cross-entropy, backward, gradients clipped to norm 1, AdamW.
Descent's is its own loop on what a recipe builds; nanoGPT has no loop to import (its script trains where it
is run), and transformers' Trainer would add work of its own, so these two get the shortest loop there is
around their models.

Shapes: B batch, T time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from descent.data.batches import prefetch
from descent.data.config import TextData
from descent.data.dataset import Dataset, StreamSplit, compact
from descent.models.gpt import GPTConfig
from descent.objectives import CausalConfig
from descent.runs.assemble import Parts, put_together
from descent.runs.recipe import Budget, Recipe
from descent.text import TokenizerConfig
from descent.training.loop import train
from descent.training.optimizers import AdamWConfig
from descent.training.precision import tune_allocator

Precision = Literal["auto", "fp32", "bf16"]

RATE, DECAY, BETAS, CLIP = 6e-4, 0.1, (0.9, 0.95), 1.0


@dataclasses.dataclass(frozen=True)
class Shape:
    """A GPT-2 and the batch it is trained on.

    Attributes:
        depth, dim, heads, vocab, bias: of the network.
        context: its longest row.
        rows, length: B and T of a batch.
        gelu: "gelu", approximated by tanh as in GPT-2 and transformers, or "gelu_exact" as in nanoGPT, whose
            code knows no other; the exact one is faster, so each peer is left with its own.
    """

    depth: int
    dim: int
    heads: int
    vocab: int
    bias: bool
    context: int
    rows: int
    length: int
    gelu: str = "gelu"

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def flops(self) -> int:
        """Arithmetic of a step's matrix products, causal scores counted once: 6 N + 6 L T C a token."""
        weights = 12 * self.depth * self.dim**2 + self.vocab * self.dim
        return self.tokens * (6 * weights + 6 * self.depth * self.length * self.dim)


SHAPES = {
    "gpt2-124m": Shape(12, 768, 12, vocab=50304, bias=True, context=1024, rows=4, length=512),
    "small": Shape(4, 128, 4, vocab=65, bias=False, context=64, rows=12, length=64, gelu="gelu_exact"),
}
"""GPT-2's smallest size, its vocabulary padded as nanoGPT does, and nanoGPT's documented network for CPUs."""


def descent(shape: Shape, steps: int, precision: Precision = "auto") -> Callable[[], float]:
    """What `descent train` runs: a recipe put together, batches prefetched, the loop."""
    return own_loop(put_together(_recipe(shape, precision), _dataset(shape), None), steps)


def own_loop(parts: Parts, steps: int) -> Callable[[], float]:
    """So many steps a round of Descent's own loop, batches prefetched."""
    tune_allocator()

    def work() -> float:
        start, reports = parts.state.step, []
        settings = dataclasses.replace(parts.settings, steps=start + steps)
        with prefetch(parts.batches.batch, start, start + steps) as batches:
            coming = iter(batches)
            train(
                parts.state,
                parts.objective,
                lambda step: next(coming),
                settings=settings,
                after_step=reports.append,
            )
        return reports[-1].losses["train"]

    return work


def nanogpt(shape: Shape, steps: int, path: str, best: bool, tuned: bool = False) -> Callable[[], float]:
    """nanoGPT's network and optimizer.

    Args:
        path: folder that holds nanoGPT's model.py.
        best: with bfloat16 autocast and the fused AdamW; otherwise as its script does it on a CPU.
        tuned: with Descent's settings of the allocator.
    """
    if tuned:
        tune_allocator()
    module = _load(Path(path) / "model.py")
    config = module.GPTConfig(
        block_size=shape.context,
        vocab_size=shape.vocab,
        n_layer=shape.depth,
        n_head=shape.heads,
        n_embd=shape.dim,
        bias=shape.bias,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        model = module.GPT(config)
        optimizer = model.configure_optimizers(DECAY, RATE, BETAS, "cpu")
    if best:
        optimizer = torch.optim.AdamW(optimizer.param_groups, lr=RATE, betas=BETAS, fused=True)
    return _plain_loop(model, optimizer, lambda x, y: model(x, y)[1], shape, steps, best)


def transformers(
    shape: Shape, steps: int, best: bool, attention: str = "sdpa", tuned: bool = False
) -> Callable[[], float]:
    """transformers' GPT-2 with its own loss.

    Args:
        best: with bfloat16 autocast and the fused AdamW; otherwise single precision and AdamW's default.
        attention: "sdpa", the default, or "eager".
        tuned: with Descent's settings of the allocator.
    """
    if tuned:
        tune_allocator()
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocab,
        n_positions=shape.context,
        n_layer=shape.depth,
        n_head=shape.heads,
        n_embd=shape.dim,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        attn_implementation=attention,
    )
    model = GPT2LMHeadModel(config).train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=best or None)
    # Its own loss shifts the labels by one itself, so it predicts one token less of every row.
    return _plain_loop(model, optimizer, lambda x, y: model(x, labels=x).loss, shape, steps, best)


def _plain_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    shape: Shape,
    steps: int,
    half: bool,
) -> Callable[[], float]:
    torch.manual_seed(1)
    batches = _batches(shape)
    context: AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()

    def work() -> float:
        value = 0.0
        for _ in range(steps):
            tokens_BT, targets_BT = next(batches)
            with context:
                loss = loss_of(tokens_BT, targets_BT)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = loss.item()
        return value

    return work


def _tokens(shape: Shape) -> np.ndarray[Any, np.dtype[np.integer]]:
    """A stream with something to learn: of every two tokens the second follows from the first."""
    random = np.random.default_rng(1)
    first = random.integers(0, shape.vocab, 50_000)
    return compact(np.stack((first, (first * 7 + 3) % shape.vocab), axis=1).ravel(), shape.vocab)


def _batches(shape: Shape) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows from random places, as nanoGPT's script takes them."""
    data = _tokens(shape).astype(np.int64)
    while True:
        starts = torch.randint(len(data) - shape.length, (shape.rows,)).tolist()
        rows = torch.stack([torch.from_numpy(data[start : start + shape.length + 1]) for start in starts])
        yield rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def _recipe(shape: Shape, precision: Precision) -> Recipe:
    model = GPTConfig.gpt2(
        "124M",
        depth=shape.depth,
        dim=shape.dim,
        heads=shape.heads,
        vocab_size=shape.vocab,
        bias=shape.bias,
        context=shape.context,
        feedforward=shape.gelu,
    )
    return Recipe(
        name="benchmark",
        data=TextData(source="python-docs", length=shape.length),
        tokenizer=TokenizerConfig(),
        model=model,
        objective=CausalConfig(),
        optimizer=AdamWConfig(learning_rate=RATE, weight_decay=DECAY, betas=BETAS, decay_embeddings=True),
        clip_norm=CLIP,
        precision=precision,
        budget=Budget(steps=10**6, batch_size=shape.rows),
    )


def _dataset(shape: Shape) -> Dataset:
    split = StreamSplit(_tokens(shape), shape.length)
    return Dataset("benchmark", {"train": split}, {"vocab_size": shape.vocab}, "tokens", "")


def _load(path: Path) -> Any:
    """A module from a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"{path}: expected the model.py of nanoGPT; give its folder with --nanogpt")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
