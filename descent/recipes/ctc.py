"""Recipes that hear strings: labels in order, without being told where each is."""

from __future__ import annotations

from descent.data.sound_config import SoundAugment, SoundData
from descent.models.rnn import RNNConfig
from descent.objectives.ctc import CTCConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import CosineConfig


def lstm_fsdd_ctc() -> Recipe:
    """An LSTM that reads both ways, on strings of three to seven spoken digits."""
    return Recipe(
        name="lstm-fsdd-ctc",
        about="an LSTM with CTC on strings of 3 to 7 spoken digits",
        precision="fp32",
        clip_norm=1.0,
        data=SoundData(
            source="fsdd",
            hop=0.02,
            strings=(3, 7),
            training_strings=2400,
            augment=SoundAugment(),
        ),
        model=RNNConfig(cell="lstm", depth=2, dim=96, bidirectional=True, dropout=0.1),
        objective=CTCConfig(),
        optimizer=AdamWConfig(learning_rate=4e-3, weight_decay=0.01, betas=(0.9, 0.98)),
        schedule=CosineConfig(warmup=0.05),
        budget=Budget(steps=600, batch_size=24),
        evaluation=EvaluationPlan(every=200, metric="wer_beam", batch_size=100),
    )
