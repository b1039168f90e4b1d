"""Recipes that find answers in texts, and texts that answer.

Of the network they say the head alone: its sizes come from the run it starts from (`transfer.weights=RUN`),
or are the defaults.
"""

from __future__ import annotations

from descent.data.questions_config import QuestionsData
from descent.data.ranking_config import RankingData
from descent.models.bert import BERTConfig
from descent.objectives.ranking import RankingConfig
from descent.objectives.span import SpanConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import LinearScheduleConfig


def bert_cmrc() -> Recipe:
    """Chinese questions: trained on the trial file of CMRC 2018 and XQuAD's Chinese, tested on CMRC's dev."""
    return Recipe(
        name="bert-cmrc",
        about="a BERT that finds the answers to Chinese questions (CMRC 2018 and XQuAD)",
        data=QuestionsData(source="cmrc2018+xquad-zh", length=256, stride=128, longest=60),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=8192, marks="bert"),
        model=BERTConfig(head="span"),
        objective=SpanConfig(),
        optimizer=AdamWConfig(learning_rate=3e-4, weight_decay=0.01),
        schedule=LinearScheduleConfig(warmup=0.1),
        clip_norm=1.0,
        budget=Budget(epochs=4, batch_size=32),
        evaluation=EvaluationPlan(every=150, batch_size=64, metric="f1"),
    )


def bert_xquad() -> Recipe:
    """English questions of SQuAD, of the 48 articles that XQuAD has."""
    return bert_cmrc().replace(
        name="bert-xquad",
        about="a BERT that finds the answers to English questions (XQuAD)",
        data=QuestionsData(source="xquad-en", length=256, stride=128).table(),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=8192, marks="bert", lowercase=True).table(),
        budget=Budget(epochs=6, batch_size=32).table(),
        evaluation=EvaluationPlan(every=100, batch_size=64, metric="f1").table(),
    )


def bert_cranfield() -> Recipe:
    """BM25's first 50 of 1,400 abstracts, ranked anew; a fifth of the 225 questions is the test."""
    return Recipe(
        name="bert-cranfield",
        about="a BERT that ranks the abstracts BM25 finds for questions on aerodynamics (Cranfield)",
        data=RankingData(source="cranfield", length=256, query_length=48),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab_size=8192, marks="bert", lowercase=True),
        model=BERTConfig(head="classes"),
        objective=RankingConfig(interpolate=True),
        optimizer=AdamWConfig(learning_rate=3e-4, weight_decay=0.01),
        schedule=LinearScheduleConfig(warmup=0.1),
        clip_norm=1.0,
        budget=Budget(epochs=4, batch_size=8),
        evaluation=EvaluationPlan(every=150, batch_size=64, metric="ndcg10"),
    )
