"""Recipes on music: Bach's chorales as frames, and as four voices."""

from __future__ import annotations

from descent.data.music_config import MusicData
from descent.models.rnn import RNNConfig
from descent.objectives import CausalConfig, FramesConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import MuonConfig
from descent.training.schedules import CosineConfig


def lstm_chorales() -> Recipe:
    """Which notes sound at the next quarter note.

    The 229 training pieces are soon known by heart: moving each by up to 5 semitones, dropout and averaged
    weights are what makes the difference.
    """
    return Recipe(
        name="lstm-chorales",
        about="an LSTM on the frames of Bach's chorales",
        clip_norm=1.0,
        average=0.99,
        data=MusicData(source="jsb-chorales-quarter", form="frames", transpose=5, length=32),
        model=RNNConfig(cell="lstm", depth=1, dim=512, dropout=0.15),
        objective=FramesConfig(),
        optimizer=MuonConfig(
            learning_rate=0.02, adam_learning_rate=5e-3, weight_decay=0.05, betas=(0.9, 0.99)
        ),
        schedule=CosineConfig(warmup=0.05),
        budget=Budget(epochs=60, batch_size=16),
        evaluation=EvaluationPlan(every=350, batch_size=128),
    )


def gru_chorales() -> Recipe:
    """The same by a GRU."""
    return lstm_chorales().replace(
        name="gru-chorales",
        about="a GRU on the frames of Bach's chorales",
        model=RNNConfig(cell="gru", depth=1, dim=512, dropout=0.15).table(),
    )


def lstm_chorales_voices() -> Recipe:
    """Soprano, alto, tenor and bass of every 16th, one token after the other."""
    return Recipe(
        name="lstm-chorales-voices",
        about="an LSTM that writes chorales in four voices",
        clip_norm=1.0,
        average=0.99,
        data=MusicData(source="jsb-chorales-voices", form="voices", transpose=5, length=64),
        model=RNNConfig(cell="lstm", depth=1, dim=384, embedding=64, dropout=0.1),
        objective=CausalConfig(),
        optimizer=MuonConfig(
            learning_rate=0.02, adam_learning_rate=5e-3, weight_decay=0.02, betas=(0.9, 0.99)
        ),
        schedule=CosineConfig(warmup=0.05),
        budget=Budget(steps=800, batch_size=16),
        evaluation=EvaluationPlan(every=200, batch_size=16),
    )
