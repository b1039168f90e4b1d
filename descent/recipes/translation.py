"""Recipes that translate: Multi30k, German to English."""

from __future__ import annotations

from descent.data.pairs_config import PairsData
from descent.models.seq2seq import Seq2SeqConfig
from descent.models.transformer import TransformerConfig
from descent.objectives.seq2seq import Seq2SeqObjectiveConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe, SamplePlan
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamConfig, MuonConfig
from descent.training.schedules import TrapezoidConfig


def transformer_multi30k() -> Recipe:
    """The Transformer of 2017, small, pre-norm, on packed pairs."""
    return Recipe(
        name="transformer-multi30k",
        about="a Transformer that translates German into English (Multi30k, 29,000 pairs)",
        data=PairsData(source="multi30k", packing="documents", length=128),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=6000, lowercase=True),
        model=TransformerConfig(depth=3, dim=256, heads=4, hidden=1024, order="pre", dropout=0.2),
        objective=Seq2SeqObjectiveConfig(label_smoothing=0.1),
        optimizer=MuonConfig(),
        schedule=TrapezoidConfig(warmup=0.05, cooldown=0.6),
        clip_norm=1.0,
        budget=Budget(epochs=10, batch_size=200),
        evaluation=EvaluationPlan(every=300, batch_size=128, metric="bleu"),
        samples=SamplePlan(every=300, max_new_tokens=40, temperature=0.0),
    )


def lstm_multi30k() -> Recipe:
    """An LSTM with Bahdanau's attention on the same pairs and tokens, to be set beside the Transformer."""
    return transformer_multi30k().replace(
        name="lstm-multi30k",
        about="an LSTM with attention that translates German into English (Multi30k, 29,000 pairs)",
        data=PairsData(source="multi30k", length=128).table(),
        model=Seq2SeqConfig(attention="bahdanau", dim=256, embedding=256, dropout=0.3).table(),
        optimizer=AdamConfig(learning_rate=0.002).table(),
    )
