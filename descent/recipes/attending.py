"""Recipes that pretrain encoders and encoder-decoders on text."""

from __future__ import annotations

from descent.data.masked_config import MaskedData, SpansData
from descent.models.bert import BERTConfig
from descent.models.t5 import T5Config
from descent.objectives.masked import MaskedConfig
from descent.objectives.seq2seq import Seq2SeqObjectiveConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import MuonConfig
from descent.training.schedules import CosineConfig


def bert() -> Recipe:
    """A small modern BERT on Python's own documentation; three minutes on one core."""
    return Recipe(
        name="bert",
        about="a BERT that finds hidden words in Python's own documentation (embedded, no download)",
        data=MaskedData(source="python-docs", length=128, share=0.3),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=2048, marks="bert"),
        model=BERTConfig(depth=4, dim=192, heads=3, dropout=0.0),
        objective=MaskedConfig(),
        optimizer=MuonConfig(
            learning_rate=0.02, adam_learning_rate=3e-3, embedding_learning_rate=0.01, eps=1e-10
        ),
        schedule=CosineConfig(warmup=0.02),
        budget=Budget(steps=600, batch_size=16),
        evaluation=EvaluationPlan(every=200, batch_size=64),
    )


def t5() -> Recipe:
    """A small T5 on the same text, which writes the spans that were cut out of it."""
    return bert().replace(
        name="t5",
        about="a T5 that writes spans cut out of Python's own documentation (embedded, no download)",
        data=SpansData(source="python-docs", length=128).table(),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=2048, marks="t5").table(),
        model=T5Config(depth=3, dim=192, heads=3, feedforward="gated_gelu").table(),
        objective=Seq2SeqObjectiveConfig().table(),
    )
