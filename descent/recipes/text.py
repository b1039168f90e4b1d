"""Recipes on text."""

from __future__ import annotations

from descent.data.config import TextData
from descent.models.gpt import GPTConfig
from descent.models.llama import LlamaConfig
from descent.models.rnn import RNNConfig
from descent.objectives import CausalConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe, SamplePlan
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamWConfig, MuonConfig
from descent.training.schedules import CosineConfig


def gpt() -> Recipe:
    """The default: Python's own reference documentation, about three minutes on two cores."""
    return Recipe(
        name="gpt",
        about="a GPT on Python's own documentation (embedded, no download)",
        data=TextData(source="python-docs"),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=1024),
        model=GPTConfig(depth=4, context=256, dropout=0.2),
        objective=CausalConfig(),
        optimizer=MuonConfig(
            learning_rate=0.02, adam_learning_rate=3e-3, embedding_learning_rate=0.01, eps=1e-10
        ),
        schedule=CosineConfig(warmup=0.02),
        budget=Budget(steps=400, batch_size=16),
        evaluation=EvaluationPlan(every=100, batch_size=64),
        samples=SamplePlan(every=100, prompt="", max_new_tokens=200, temperature=0.6, top_p=0.95),
    )


def gpt_shakespeare() -> Recipe:
    """Characters of Shakespeare, in less than ten minutes on two cores.

    Small batches (4,096 characters), many steps, and dropout: six passes over a million characters
    are enough to overfit without.
    """
    return gpt().replace(
        name="gpt-shakespeare",
        about="a character GPT on tinyshakespeare, 10 minutes",
        data=TextData(source="tinyshakespeare").table(),
        tokenizer=TokenizerConfig(kind="char").table(),
        model=GPTConfig(depth=5, dim=192, heads=3, context=256, dropout=0.12, bigram=True).table(),
        budget=Budget(steps=1500, batch_size=16).table(),
        evaluation=EvaluationPlan(every=500, batch_size=64).table(),
        samples=SamplePlan(every=500, prompt="\n", max_new_tokens=400).table(),
    )


def gpt_shakespeare_long() -> Recipe:
    """The same network and a third more steps."""
    return gpt_shakespeare().replace(
        name="gpt-shakespeare-long",
        about="a character GPT on tinyshakespeare, 13 minutes",
        budget=Budget(steps=2000, batch_size=16).table(),
    )


def gpt_shakespeare_short() -> Recipe:
    """A minute and a half, for a first look: a narrower network, two passes."""
    return gpt_shakespeare().replace(
        name="gpt-shakespeare-short",
        about="a character GPT on tinyshakespeare, 1.5 minutes",
        model=GPTConfig(depth=4, dim=128, heads=2, context=256, bigram=True).table(),
        budget=Budget(steps=480, batch_size=16).table(),
        evaluation=EvaluationPlan(every=240, batch_size=64).table(),
        samples=SamplePlan(every=0, prompt="\n", max_new_tokens=400).table(),
    )


def gpt_poetry() -> Recipe:
    """Tang poems, whole poems packed into rows."""
    return gpt().replace(
        name="gpt-poetry",
        about="a GPT that writes Tang poems",
        data=TextData(source="chinese-poetry", packing="documents").table(),
        tokenizer=TokenizerConfig(kind="char").table(),
        model=GPTConfig(depth=4, context=256, dropout=0.2, tied=True).table(),
        samples=SamplePlan(every=100, prompt="", max_new_tokens=120).table(),
    )


def gpt_names() -> Recipe:
    """First names, one a document; under a minute."""
    return gpt().replace(
        name="gpt-names",
        about="a small GPT that makes up first names",
        data=TextData(source="names", packing="documents").table(),
        tokenizer=TokenizerConfig(kind="char").table(),
        model=GPTConfig(depth=3, dim=96, heads=3, context=64, bigram=True).table(),
        budget=Budget(steps=600, batch_size=64).table(),
        evaluation=EvaluationPlan(every=200, batch_size=256).table(),
        samples=SamplePlan(every=200, prompt="", max_new_tokens=20).table(),
    )


def gpt2_124m() -> Recipe:
    """GPT-2's smallest network and its optimizer's published settings, on embedded text."""
    return Recipe(
        name="gpt2-124m",
        about="GPT-2 at its published size, for benchmarks",
        data=TextData(source="python-source", length=512),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=50257),
        model=GPTConfig.gpt2("124M", vocab_size=0),
        objective=CausalConfig(),
        optimizer=AdamWConfig(learning_rate=6e-4, weight_decay=0.1, betas=(0.9, 0.95)),
        schedule=CosineConfig(warmup=0.02, final=0.1),
        clip_norm=1.0,
        budget=Budget(steps=1000, batch_size=4),
        evaluation=EvaluationPlan(every=0, batch_size=4),
        samples=SamplePlan(prompt="def ", max_new_tokens=128),
    )


def llama() -> Recipe:
    """The same documentation by a Llama with grouped heads, whose export transformers loads as its own."""
    return gpt().replace(
        name="llama",
        about="a Llama on Python's own documentation (embedded, no download)",
        model=LlamaConfig(depth=4, groups=2, context=256, dropout=0.2).table(),
    )


def lstm() -> Recipe:
    """The same documentation by an LSTM that reads on from step to step, its state carried."""
    return gpt().replace(
        name="lstm",
        about="an LSTM on Python's own documentation (embedded, no download)",
        data=TextData(source="python-docs", packing="lanes", length=128).table(),
        model=RNNConfig(cell="lstm", depth=2, dim=512, embedding=256, dropout=0.2).table(),
        optimizer=AdamWConfig(learning_rate=4e-3, weight_decay=0.01, betas=(0.9, 0.99)).table(),
        schedule=CosineConfig(warmup=0.02).table(),
        clip_norm=1.0,
        budget=Budget(steps=400, batch_size=32).table(),
        samples=SamplePlan(every=100, prompt="", max_new_tokens=200, temperature=0.6, top_p=0.95).table(),
    )


def lstm_shakespeare() -> Recipe:
    """Characters of Shakespeare by an LSTM, at the training FLOPs of `gpt-shakespeare`."""
    return lstm().replace(
        name="lstm-shakespeare",
        about="a character LSTM on tinyshakespeare, at the training FLOPs of gpt-shakespeare",
        data=TextData(source="tinyshakespeare", packing="lanes", length=128).table(),
        tokenizer=TokenizerConfig(kind="char").table(),
        model=RNNConfig(cell="lstm", depth=2, dim=512, embedding=128, dropout=0.3).table(),
        optimizer=AdamWConfig(learning_rate=8e-3, weight_decay=0.01, betas=(0.9, 0.99)).table(),
        budget=Budget(steps=1318, batch_size=32).table(),
        evaluation=EvaluationPlan(every=400, batch_size=64).table(),
        samples=SamplePlan(every=400, prompt="\n", max_new_tokens=400).table(),
    )
