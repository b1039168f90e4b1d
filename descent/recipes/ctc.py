"""Recipes that hear strings: labels in order, without being told where each is."""

from __future__ import annotations

from descent.data.sound_config import SoundAugment, SoundData
from descent.models.rnn import RNNConfig
from descent.objectives.ctc import CTCConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import CosineConfig


def lstm_fsdd_ctc() -> Recipe:
    """Strings of three to seven spoken digits by an LSTM that reads both ways, 33 frames a second."""
    return Recipe(
        name="lstm-fsdd-ctc",
        about="an LSTM that hears strings of spoken digits, by CTC",
        precision="fp32",
        clip_norm=1.0,
        data=SoundData(
            source="fsdd",
            window=0.05,
            hop=0.03,
            strings=(3, 7),
            training_strings=2400,
            augment=SoundAugment(speed=0.05, gain=6.0, noise=(20.0, 50.0)),
        ),
        model=RNNConfig(cell="lstm", depth=2, dim=96, bidirectional=True, dropout=0.1),
        objective=CTCConfig(),
        optimizer=AdamWConfig(learning_rate=5e-3, weight_decay=0.01, betas=(0.9, 0.98)),
        schedule=CosineConfig(warmup=0.05),
        budget=Budget(steps=320, batch_size=32),
        evaluation=EvaluationPlan(every=160, metric="wer_beam", batch_size=100),
    )
