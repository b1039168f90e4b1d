"""Recipes on texts with labels: BERT that tells classes of texts and of pairs, and the names in a text.

From scratch they are small; `transfer.weights=RUN`, a BERT pretrained on text, makes each a fine-tuning, and
then network and tokenizer are those of that run.
"""

from __future__ import annotations

from descent.data.entities_config import EntitiesData
from descent.data.sentences_config import SentencesData
from descent.models.bert import BERTConfig
from descent.objectives import SupervisedConfig, TaggingConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import CosineConfig


def bert_sst2() -> Recipe:
    """Film reviews, good or bad, a sentence each; a minute or two on two cores."""
    return Recipe(
        name="bert-sst2",
        about="a small BERT that tells good film reviews from bad ones",
        data=SentencesData(source="sst2"),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=8192, marks="bert", lowercase=True),
        model=BERTConfig(head="classes", dropout=0.2),
        objective=SupervisedConfig(loss="cross_entropy"),
        optimizer=AdamWConfig(learning_rate=1e-3, weight_decay=0.1),
        schedule=CosineConfig(warmup=0.1),
        clip_norm=1.0,
        budget=Budget(epochs=4, batch_size=64),
        evaluation=EvaluationPlan(every=108, metric="accuracy"),
    )


def bert_hotel() -> Recipe:
    """Chinese reviews of hotels, good or bad."""
    return bert_sst2().replace(
        name="bert-hotel",
        about="a small BERT that tells good Chinese reviews of hotels from bad ones",
        data=SentencesData(source="chnsenticorp-hotel", length=192).table(),
        evaluation=EvaluationPlan(every=98, metric="accuracy").table(),
    )


def bert_sick() -> Recipe:
    """Pairs of English sentences: does the second follow, is it contradicted, or neither?"""
    return bert_sst2().replace(
        name="bert-sick",
        about="a small BERT on what follows from an English sentence",
        data=SentencesData(source="sick2014").table(),
        budget=Budget(epochs=10, batch_size=64).table(),
        evaluation=EvaluationPlan(every=142, metric="accuracy").table(),
    )


def bert_ocnli() -> Recipe:
    """Pairs of Chinese sentences: does the second follow, is it contradicted, or neither?"""
    return bert_sick().replace(
        name="bert-ocnli",
        about="a small BERT on what follows from a Chinese sentence",
        data=SentencesData(source="ocnli").table(),
        evaluation=EvaluationPlan(every=86, metric="accuracy").table(),
    )


def bert_wnut17() -> Recipe:
    """Names of people, places and things that are rarely named, in messages of social media.

    Whether a word has a capital tells a name, so the tokenizer keeps them.
    """
    return bert_sst2().replace(
        name="bert-wnut17",
        about="a small BERT that finds rare names in messages",
        data=EntitiesData(source="wnut17").table(),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=8192, marks="bert").table(),
        model=BERTConfig(head="tokens", dropout=0.2).table(),
        objective=TaggingConfig().table(),
        budget=Budget(epochs=10, batch_size=32).table(),
        evaluation=EvaluationPlan(every=220, metric="f1").table(),
    )
