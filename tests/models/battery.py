"""What every model must pass: one set of checks, and for each model the sizes and inputs to run them on.

A new model adds one line to `SPECIMENS` for each of its variants that has parts of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from descent.models import build, config_class

BATCH, TIME, VOCAB = 3, 7, 11


Inputs = Callable[[], tuple[Tensor, ...]]


def tokens() -> tuple[Tensor, ...]:
    return (torch.randint(VOCAB, (BATCH, TIME)),)


def numbers(*shape: int) -> Inputs:
    return lambda: (torch.randn(BATCH, *shape),)


def window() -> tuple[Tensor, ...]:
    """A history of 12 steps in 4 columns, and 2 columns known for its 5 next steps too."""
    return torch.randn(BATCH, 12, 4), torch.randn(BATCH, 17, 2)


def pairs() -> tuple[Tensor, ...]:
    """A source, how much of it is real, and a target."""
    lengths = torch.tensor([6, 2, 4])
    return torch.randint(VOCAB, (BATCH, 6)), lengths, torch.randint(VOCAB, (BATCH, TIME))


def two_sides() -> tuple[Tensor, ...]:
    """A source and a target."""
    return torch.randint(VOCAB, (BATCH, 6)), torch.randint(VOCAB, (BATCH, TIME))


@dataclass(frozen=True)
class Specimen:
    """A model small enough to test: its name, its sizes, what goes in and the shape of what comes out."""

    model: str
    inputs: Inputs
    shape: tuple[int, ...]
    sizes: dict[str, Any] = field(default_factory=dict)
    decodes: bool = False

    def build(self) -> nn.Module:
        """The model in evaluation mode, every parameter drawn at random: none is zero, so all matter."""
        model = build(config_class(self.model).read(self.sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        return model.eval()


GPT = {"depth": 2, "dim": 24, "heads": 3, "context": 16, "vocab_size": VOCAB}
LLAMA = {"depth": 2, "dim": 24, "heads": 4, "groups": 2, "hidden": 28, "context": 16, "vocab_size": VOCAB}
GPT_2 = {
    "position": "learned", "norm": "layer", "feedforward": "gelu", "bias": True, "qk_norm": False,
    "tied": True, "softcap": 0.0, "zero_init": False, "embedding_norm": False,
}  # fmt: skip
ALEXNET = {"outputs": 4, "channels": [8, 12, 8, 8, 12], "hidden": 16}
RESNET = {"outputs": 4, "depths": [2, 1], "widths": [8, 16]}
VIT = {"outputs": 4, "depth": 2, "dim": 24, "heads": 3, "patch": 4}
RNN = {"depth": 2, "dim": 12, "vocab_size": VOCAB}
SERIES = {"channels": 4, "outputs": 3, "horizon": 5}
PAIRS = {"vocab_size": VOCAB, "dim": 12, "embedding": 8, "depth": 2}
SIDES = {"vocab_size": VOCAB, "depth": 2, "dim": 24, "heads": 3}
BERT = {"vocab_size": VOCAB, "depth": 2, "dim": 24, "heads": 3, "segments": 1, "dropout": 0.3}
OF_2019 = {
    "position": "learned", "order": "post", "feedforward": "gelu", "bias": True, "context": TIME,
    "attention_dropout": 0.2,
}  # fmt: skip
OUT = (BATCH, TIME, VOCAB)

SPECIMENS = {
    "linear": Specimen("linear", numbers(5), (BATCH, 2), {"inputs": [5], "outputs": 2}),
    "linear on images": Specimen("linear", numbers(1, 4, 3), (BATCH, 2), {"inputs": [1, 4, 3], "outputs": 2}),
    "mlp": Specimen(
        "mlp", numbers(5), (BATCH, 2), {"inputs": [5], "outputs": 2, "hidden": [9, 7], "dropout": 0.3}
    ),
    "mlp without hidden layers": Specimen(
        "mlp", numbers(5), (BATCH, 1), {"inputs": [5], "outputs": 1, "hidden": []}
    ),
    "lenet on 8x8": Specimen("lenet", numbers(1, 8, 8), (BATCH, 10), {"inputs": [1, 8, 8], "outputs": 10}),
    "lenet on 28x28": Specimen(
        "lenet",
        numbers(1, 28, 28),
        (BATCH, 10),
        {"inputs": [1, 28, 28], "outputs": 10, "activation": "tanh", "pool": "average", "dropout": 0.2},
    ),
    "lenet in colour": Specimen(
        "lenet", numbers(3, 40, 36), (BATCH, 4), {"inputs": [3, 40, 36], "outputs": 4}
    ),
    "alexnet": Specimen(
        "alexnet", numbers(3, 67, 67), (BATCH, 4), {**ALEXNET, "inputs": [3, 67, 67], "dropout": 0.2}
    ),
    "alexnet of 2014": Specimen(
        "alexnet",
        numbers(3, 63, 70),
        (BATCH, 4),
        {**ALEXNET, "inputs": [3, 63, 70], "padding": 2, "towers": 1, "response_norm": False},
    ),
    "alexnet for small images": Specimen(
        "alexnet",
        numbers(1, 32, 32),
        (BATCH, 4),
        {**ALEXNET, "inputs": [1, 32, 32], "kernel": 5, "stride": 1, "padding": 2},
    ),
    "resnet": Specimen("resnet", numbers(3, 40, 32), (BATCH, 4), {**RESNET, "inputs": [3, 40, 32]}),
    "resnet of bottlenecks": Specimen(
        "resnet", numbers(3, 40, 32), (BATCH, 4), {**RESNET, "inputs": [3, 40, 32], "block": "bottleneck"}
    ),
    "resnet for small images": Specimen(
        "resnet",
        numbers(1, 9, 8),
        (BATCH, 4),
        {**RESNET, "inputs": [1, 9, 8], "stem": "small", "shortcut": "padded"},
    ),
    "resnet with pre-activation": Specimen(
        "resnet", numbers(3, 40, 32), (BATCH, 4), {**RESNET, "inputs": [3, 40, 32], "preactivation": True}
    ),
    "airbench": Specimen(
        "airbench",
        numbers(3, 16, 20),
        (BATCH, 4),
        {"inputs": [3, 16, 20], "outputs": 4, "widths": [8, 12, 16]},
    ),
    "vit": Specimen("vit", numbers(3, 12, 8), (BATCH, 4), {**VIT, "inputs": [3, 12, 8]}),
    "vit with mean pooling and a stem": Specimen(
        "vit",
        numbers(1, 8, 8),
        (BATCH, 4),
        {**VIT, "inputs": [1, 8, 8], "pool": "mean", "stem": [6, 24], "dropout": 0.3},
    ),
    "rnn": Specimen("rnn", tokens, OUT, RNN, decodes=True),
    "rnn of gru with dropout": Specimen(
        "rnn", tokens, OUT, {**RNN, "cell": "gru", "tied": True, "dropout": 0.3}, decodes=True
    ),
    "rnn of elman": Specimen(
        "rnn", tokens, OUT, {**RNN, "cell": "tanh", "embedding": 7, "depth": 1}, decodes=True
    ),
    "rnn of rectified elman": Specimen("rnn", tokens, OUT, {**RNN, "cell": "relu"}, decodes=True),
    "rnn with peepholes": Specimen("rnn", tokens, OUT, {**RNN, "peephole": True}, decodes=True),
    "rnn that classifies": Specimen(
        "rnn",
        numbers(TIME, 5),
        (BATCH, 3),
        {"dim": 12, "inputs": [5], "outputs": 3, "pool": "mean", "bidirectional": True},
    ),
    "rnn that tags": Specimen(
        "rnn", numbers(TIME, 5), (BATCH, TIME, 3), {"dim": 12, "inputs": [5], "outputs": 3, "cell": "gru"}
    ),
    "forecaster": Specimen(
        "forecaster", window, (BATCH, 5, 3), {**SERIES, "known": 2, "dim": 12, "patch": 4, "dropout": 0.3}
    ),
    "forecaster that reads on": Specimen(
        "forecaster",
        window,
        (BATCH, 5, 3, 3),
        {**SERIES, "known": 2, "dim": 12, "mode": "autoregressive", "apart": False, "quantiles": 3},
    ),
    "dlinear": Specimen("dlinear", window, (BATCH, 5, 3), {**SERIES, "history": 12, "kernel": 5}),
    "dscnn": Specimen(
        "dscnn", numbers(31, 20), (BATCH, 4), {"inputs": [20], "outputs": 4, "channels": 8, "depth": 2}
    ),
    "seq2seq": Specimen("seq2seq", pairs, OUT, {**PAIRS, "attention": "bahdanau"}),
    "seq2seq of luong": Specimen(
        "seq2seq", pairs, OUT, {**PAIRS, "attention": "luong", "cell": "gru", "dropout": 0.3}
    ),
    "seq2seq without attention": Specimen("seq2seq", pairs, OUT, {**PAIRS, "attention": "none"}),
    "transformer": Specimen("transformer", two_sides, OUT, {**SIDES, "dropout": 0.3}),
    "transformer with norms first": Specimen(
        "transformer", two_sides, OUT, {**SIDES, "order": "pre", "tied": False, "head_bias": True}
    ),
    "t5": Specimen("t5", two_sides, OUT, {**SIDES, "head_dim": 5, "feedforward": "relu", "dropout": 0.3}),
    "t5 of version 1.1": Specimen("t5", two_sides, OUT, {**SIDES, "decoder_depth": 1, "tied": False}),
    "bert": Specimen("bert", tokens, OUT, {**BERT, "dropout": 0.0}),
    "bert of 2019": Specimen("bert", tokens, OUT, {**BERT, **OF_2019}),
    "bert of classes": Specimen("bert", tokens, (BATCH, 4), {**BERT, "head": "classes", "outputs": 4}),
    "bert of classes with a pooler": Specimen(
        "bert",
        tokens,
        (BATCH, 4),
        {**BERT, **OF_2019, "head": "classes", "outputs": 4, "pooler": True, "pooling": "first"},
    ),
    "bert of tokens": Specimen(
        "bert", tokens, (BATCH, TIME, 4), {**BERT, "head": "tokens", "outputs": 4, "embedding_norm": False}
    ),
    "bert of spans": Specimen("bert", tokens, (BATCH, TIME, 2), {**BERT, "head": "span"}),
    "bert of pairs": Specimen("bert", tokens, (BATCH, 2), {**BERT, **OF_2019, "head": "next"}),
    "bert of vectors": Specimen("bert", tokens, (BATCH, 24), {**BERT, "head": "vector"}),
    "bert without a head": Specimen(
        "bert", tokens, (BATCH, TIME, 24), {**BERT, "head": "none", "segments": 0, "feedforward": "gelu_tanh"}
    ),
    "gpt": Specimen("gpt", tokens, OUT, GPT, decodes=True),
    "gpt as gpt2": Specimen("gpt", tokens, OUT, {**GPT, **GPT_2}, decodes=True),
    "gpt with swiglu, groups and dropout": Specimen(
        "gpt",
        tokens,
        OUT,
        {**GPT, "feedforward": "swiglu", "groups": 1, "dropout": 0.3, "tied": True},
        decodes=True,
    ),
    "llama": Specimen("llama", tokens, OUT, LLAMA, decodes=True),
    "llama as qwen2": Specimen(
        "llama",
        tokens,
        OUT,
        {**LLAMA, "groups": 1, "bias": "qkv", "tied": True, "dropout": 0.3},
        decodes=True,
    ),
    "llama as qwen3, stretched": Specimen(
        "llama",
        tokens,
        OUT,
        {**LLAMA, "head_dim": 10, "qk_norm": True, "scaling": {"type": "yarn", "factor": 4.0, "trained": 20}},
        decodes=True,
    ),
    "gpt with bigrams and value embeddings": Specimen(
        "gpt", tokens, OUT, {**GPT, "bigram": True, "value_embedding": True}, decodes=True
    ),
}
