"""Recipes on pairs of texts."""

from __future__ import annotations

from descent.data.pairs_config import PairsData
from descent.models.seq2seq import Seq2SeqConfig
from descent.models.transformer import TransformerConfig
from descent.objectives.seq2seq import Seq2SeqObjectiveConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe, SamplePlan
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamConfig
from descent.training.schedules import CosineConfig


def lstm_dates_bahdanau() -> Recipe:
    """Written dates to ISO 8601 by characters, with additive attention; a minute on one core."""
    return Recipe(
        name="lstm-dates-bahdanau",
        about="an LSTM that reads written dates, with Bahdanau's attention (generated, no download)",
        data=PairsData(source="dates", length=64, validation=0.03),
        tokenizer=TokenizerConfig(kind="char"),
        model=Seq2SeqConfig(attention="bahdanau", dim=96, embedding=48),
        objective=Seq2SeqObjectiveConfig(),
        optimizer=AdamConfig(learning_rate=0.01),
        schedule=CosineConfig(warmup=0.05),
        clip_norm=1.0,
        precision="fp32",
        budget=Budget(steps=1000, batch_size=32),
        evaluation=EvaluationPlan(every=250, batch_size=256),
        samples=SamplePlan(every=250, max_new_tokens=16, temperature=0.0),
    )


def lstm_dates_luong() -> Recipe:
    """The same with multiplicative attention and input feeding."""
    return lstm_dates_bahdanau().replace(
        name="lstm-dates-luong",
        about="an LSTM that reads written dates, with Luong's attention (generated, no download)",
        model=Seq2SeqConfig(attention="luong", dim=96, embedding=48).table(),
    )


def lstm_dates_none() -> Recipe:
    """The same without attention: all that is known of the source is the encoder's last state."""
    return lstm_dates_bahdanau().replace(
        name="lstm-dates-none",
        about="an LSTM that reads written dates, without attention (generated, no download)",
        model=Seq2SeqConfig(attention="none", dim=96, embedding=48).table(),
    )


def transformer_dates() -> Recipe:
    """The same by attention alone: a Transformer of two blocks a side; three minutes on one core."""
    return lstm_dates_bahdanau().replace(
        name="transformer-dates",
        about="a Transformer that reads written dates (generated, no download)",
        model=TransformerConfig(depth=2, dim=96, heads=4, hidden=192).table(),
        optimizer=AdamConfig(learning_rate=0.002).table(),
        schedule=CosineConfig(warmup=0.1).table(),
        budget=Budget(steps=1500, batch_size=64).table(),
    )
