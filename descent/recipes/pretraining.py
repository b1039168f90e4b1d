"""Recipes that pretrain a BERT on texts in English, and in Chinese."""

from __future__ import annotations

from descent.data.masked_config import MaskedData
from descent.models.bert import BERTConfig
from descent.objectives.masked import MaskedConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import MuonConfig
from descent.training.schedules import TrapezoidConfig

ENGLISH = (
    "wikitext-2-all",
    "sst2",
    "sick2014",
    "cranfield",
    "wnut17",
    "xquad-en",
    "multi30k-en",
    "tinyshakespeare",
    "gsm8k-questions",
    "alpaca-en",
    "python-docs",
)
CHINESE = ("chnsenticorp-hotel", "cmrc2018", "xquad-zh", "ocnli", "alpaca-zh", "song-300")


def bert_english() -> Recipe:
    """The small modern BERT on the English texts at hand, among them those of the tasks without labels."""
    return Recipe(
        name="bert-english",
        about="a small modern BERT pretrained on English texts",
        data=MaskedData(source="+".join(ENGLISH), length=128, share=0.3, validation=0.02, test=0),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=8192, marks="bert"),
        model=BERTConfig(dropout=0.0),
        objective=MaskedConfig(),
        optimizer=MuonConfig(),
        schedule=TrapezoidConfig(warmup=0.05, cooldown=0.5),
        clip_norm=1.0,
        budget=Budget(steps=2000, batch_size=64),
        evaluation=EvaluationPlan(every=500, batch_size=64),
    )


def bert_chinese() -> Recipe:
    """The same on Chinese texts, by characters."""
    recipe = bert_english()
    return recipe.replace(
        name="bert-chinese",
        about="a small modern BERT pretrained on Chinese texts",
        data=recipe.data.replace(source="+".join(CHINESE)).table(),
        tokenizer=TokenizerConfig(kind="char", vocab_size=5000, marks="bert").table(),
    )
