"""Recipes for vectors of texts: texts that mean alike are to lie near each other.

From scratch they are small; `transfer.weights=RUN`, a BERT pretrained on text, makes each a fine-tuning, and
then network and tokenizer are those of that run.
"""

from __future__ import annotations

from descent.data.similar_config import SimilarData
from descent.models.bert import BERTConfig
from descent.objectives import ContrastiveConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import CosineConfig


def bert_similar() -> Recipe:
    """Pairs of English sentences of which the second follows from the first."""
    return Recipe(
        name="bert-similar",
        about="a small BERT whose vectors tell which English sentences mean alike",
        data=SimilarData(source="sick2014"),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=8192, marks="bert", lowercase=True),
        model=BERTConfig(head="vector"),
        objective=ContrastiveConfig(),
        optimizer=AdamWConfig(learning_rate=5e-4, weight_decay=0.01),
        schedule=CosineConfig(warmup=0.1),
        clip_norm=1.0,
        budget=Budget(epochs=10, batch_size=64),
        evaluation=EvaluationPlan(every=60, metric="mrr"),
    )
