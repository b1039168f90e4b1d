"""Recipes of several tasks in one T5, told apart by the first words of a text.

They are for a T5 pretrained on text (`transfer.weights=RUN`), whose network and tokenizer they then have.
"""

from __future__ import annotations

from descent.data.tasks_config import Task, TasksData
from descent.models.t5 import T5Config
from descent.objectives.seq2seq import Seq2SeqObjectiveConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import LinearScheduleConfig


def t5_tasks_en() -> Recipe:
    """Sentiment, inference, names, questions and ranking in English."""
    tasks = (
        Task(source="sst2"),
        Task(source="sick2014", name="sick"),
        Task(source="wnut17"),
        Task(source="xquad-en", name="xquad"),
        Task(source="cranfield", interpolate=True),
    )
    return Recipe(
        name="t5-tasks-en",
        about="a T5 for five English tasks at once, each as text to text",
        data=TasksData(tasks=tasks, length=384, temperature=2.0),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=8192, marks="t5"),
        model=T5Config(dropout=0.1),
        objective=Seq2SeqObjectiveConfig(),
        optimizer=AdamWConfig(learning_rate=1e-3, weight_decay=0.01),
        schedule=LinearScheduleConfig(warmup=0.1),
        clip_norm=1.0,
        budget=Budget(epochs=6, batch_size=64),
        evaluation=EvaluationPlan(every=400, batch_size=64, metric="mean"),
    )


def t5_tasks_zh() -> Recipe:
    """Sentiment, inference and questions in Chinese."""
    tasks = (
        Task(source="chnsenticorp-hotel", name="hotel", marks=("酒店评论：",)),
        Task(source="ocnli", marks=("推理前提：", "假设：")),
        Task(source="cmrc2018+xquad-zh", name="cmrc", marks=("问题：", "文章：")),
    )
    recipe = t5_tasks_en()
    return recipe.replace(
        name="t5-tasks-zh",
        about="a T5 for three Chinese tasks at once, each as text to text",
        data=TasksData(tasks=tasks, length=512, temperature=2.0).table(),
        tokenizer=TokenizerConfig(kind="char", vocab_size=5000, marks="t5").table(),
    )
