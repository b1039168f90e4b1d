"""Recipes that hear spoken digits."""

from __future__ import annotations

from descent.data.sound_config import SoundAugment, SoundData
from descent.models.dscnn import DSCNNConfig
from descent.models.rnn import RNNConfig
from descent.objectives import SupervisedConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import AdamWConfig
from descent.training.schedules import CosineConfig

AUGMENT = SoundAugment(speed=0.1, frequency_masks=1, frequency_width=6, time_masks=1, time_width=0.15)


def lstm_fsdd() -> Recipe:
    """An LSTM that reads both ways; what it says is read from the mean of its states."""
    return Recipe(
        name="lstm-fsdd",
        about="an LSTM that recognises spoken digits",
        precision="fp32",
        clip_norm=1.0,
        data=SoundData(source="fsdd", window=0.04, hop=0.02, augment=AUGMENT),
        model=RNNConfig(cell="lstm", depth=1, dim=96, bidirectional=True, pool="mean"),
        objective=SupervisedConfig(loss="cross_entropy"),
        optimizer=AdamWConfig(learning_rate=4e-3, weight_decay=0.05, betas=(0.9, 0.99)),
        schedule=CosineConfig(warmup=0.05),
        budget=Budget(epochs=30, batch_size=32),
        evaluation=EvaluationPlan(every=500, metric="accuracy", batch_size=100),
    )


def cnn_fsdd() -> Recipe:
    """DS-CNN over 40 mels, whose first convolution takes them four at a step."""
    return lstm_fsdd().replace(
        name="cnn-fsdd",
        about="a small convolutional network that recognises spoken digits",
        data=SoundData(source="fsdd", augment=AUGMENT).table(),
        model=DSCNNConfig(kernel=(10, 8), stride=(2, 4)).table(),
        optimizer=AdamWConfig(learning_rate=8e-3, weight_decay=0.05, betas=(0.9, 0.99)).table(),
        budget=Budget(epochs=24, batch_size=32).table(),
    )
