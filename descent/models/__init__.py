"""The models by name, each in the file of its paper; nothing is imported until one is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from descent.config import Config
from descent.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import nn

MODELS: dict[str, tuple[str, str, str]] = {
    "linear": ("descent.models.linear", "LinearConfig", "Linear"),
    "mlp": ("descent.models.mlp", "MLPConfig", "MLP"),
    "lenet": ("descent.models.lenet", "LeNetConfig", "LeNet"),
    "alexnet": ("descent.models.alexnet", "AlexNetConfig", "AlexNet"),
    "resnet": ("descent.models.resnet", "ResNetConfig", "ResNet"),
    "airbench": ("descent.models.airbench", "AirbenchConfig", "Airbench"),
    "vit": ("descent.models.vit", "ViTConfig", "ViT"),
    "rnn": ("descent.models.rnn", "RNNConfig", "RNN"),
    "forecaster": ("descent.models.forecaster", "ForecasterConfig", "Forecaster"),
    "dlinear": ("descent.models.dlinear", "DLinearConfig", "DLinear"),
    "dscnn": ("descent.models.dscnn", "DSCNNConfig", "DSCNN"),
    "seq2seq": ("descent.models.seq2seq", "Seq2SeqConfig", "Seq2Seq"),
    "transformer": ("descent.models.transformer", "TransformerConfig", "Transformer"),
    "t5": ("descent.models.t5", "T5Config", "T5"),
    "bert": ("descent.models.bert", "BERTConfig", "BERT"),
    "gpt": ("descent.models.gpt", "GPTConfig", "GPT"),
    "llama": ("descent.models.llama", "LlamaConfig", "Llama"),
}
"""name -> (module, name of the config class, name of the model class)"""


def config_class(name: str) -> type[Config]:
    """The config class of the model called `name`; an unknown name raises a `UserError`."""
    module, config, _ = _entry(name)
    return getattr(import_module(module), config)


def build(config: Any) -> nn.Module:
    """The model a config describes, with freshly drawn weights (from the global generator of torch)."""
    module, _, model = _entry(config.type)
    return getattr(import_module(module), model)(config)


def require_sizes(config: Any, *names: str) -> None:
    """Raises a `UserError` when a size that is left to the data is still empty as a model is built."""
    missing = [name for name in names if not getattr(config, name)]
    if missing:
        raise UserError(
            f"the sizes of the {config.type} model are not complete: {', '.join(missing)}",
            expected="sizes greater than 0",
            hint="a run takes them from its data; a model built by hand needs them in its config",
        )


def _entry(name: str) -> tuple[str, str, str]:
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]
