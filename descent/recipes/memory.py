"""Recipes on tasks of memory, whose rows are computed: a minute or two on one core."""

from __future__ import annotations

from descent.data.generated_config import GeneratedData
from descent.models.gpt import GPTConfig
from descent.models.rnn import RNNConfig
from descent.objectives import CausalConfig, SupervisedConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import AdamConfig
from descent.training.schedules import CosineConfig


def _memory(
    name: str,
    about: str,
    data: GeneratedData,
    model: RNNConfig | GPTConfig,
    steps: int,
    learning_rate: float = 3e-3,
) -> Recipe:
    """Adam, gradients of length 1 at most, and rows that are never seen twice."""
    return Recipe(
        name=name,
        about=about,
        precision="fp32",
        data=data,
        model=model,
        objective=SupervisedConfig(loss="mse") if data.task == "adding" else CausalConfig(),
        optimizer=AdamConfig(learning_rate=learning_rate),
        schedule=CosineConfig(warmup=0.02),
        clip_norm=1.0,
        budget=Budget(steps=steps, batch_size=32),
        evaluation=EvaluationPlan(every=max(1, steps // 10), batch_size=250),
    )


def _recall(name: str, by: str, model: RNNConfig | GPTConfig, learning_rate: float = 3e-3) -> Recipe:
    """A symbol is asked for 100 steps later, or after any other `data.gap`."""
    about = f"delayed recall by {by} (generated data)"
    return _memory(name, about, GeneratedData(task="recall", gap=100), model, 500, learning_rate)


def recall_rnn() -> Recipe:
    """Elman's network, with as many parameters as the others; it forgets."""
    return _recall(
        "recall-rnn", "Elman's network", RNNConfig(cell="tanh", depth=1, dim=72, embedding=32), 1e-3
    )


def recall_lstm() -> Recipe:
    """The LSTM; for another gap set `model.chrono` to it, too, which opens its gates for so long."""
    return _recall("recall-lstm", "an LSTM", RNNConfig(cell="lstm", depth=1, dim=32, chrono=100))


def recall_gru() -> Recipe:
    """The GRU; `model.chrono` as for the LSTM."""
    return _recall("recall-gru", "a GRU", RNNConfig(cell="gru", depth=1, dim=38, embedding=32, chrono=100))


def recall_gpt() -> Recipe:
    """One block of a GPT, which looks the symbol up; `model.context` must hold a row, gap + 1 tokens."""
    model = GPTConfig(depth=1, dim=32, heads=2, hidden=64, context=1024)
    return _recall("recall-gpt", "a GPT block", model, 1e-2)


def adding_lstm() -> Recipe:
    """The adding problem over 50 steps."""
    return _memory(
        "adding-lstm",
        "the adding problem by an LSTM (generated data)",
        GeneratedData(task="adding", length=50),
        RNNConfig(cell="lstm", depth=1, dim=64, pool="last", chrono=50),
        1000,
        1e-2,
    )


def copy_lstm() -> Recipe:
    """Five symbols, copied after 20 steps."""
    return _memory(
        "copy-lstm",
        "copying after a gap by an LSTM (generated data)",
        GeneratedData(task="copy", length=5, gap=20),
        RNNConfig(cell="lstm", depth=1, dim=64, chrono=30),
        2000,
        1e-2,
    )


def parity_lstm() -> Recipe:
    """The running parity of 64 bits."""
    return _memory(
        "parity-lstm",
        "running parity by an LSTM (generated data)",
        GeneratedData(task="parity", length=64),
        RNNConfig(cell="lstm", depth=1, dim=32),
        500,
    )


def dyck_lstm() -> Recipe:
    """Two kinds of brackets, 40 of them."""
    return _memory(
        "dyck-lstm",
        "balanced brackets by an LSTM (generated data)",
        GeneratedData(task="dyck", symbols=2, length=40),
        RNNConfig(cell="lstm", depth=1, dim=64),
        1000,
    )
