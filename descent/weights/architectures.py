"""The networks that transformers computes too: one row each, read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from descent.weights import bert, gpt2, llama, marian, resnet, t5, vit

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """How a network stands in config.json and model.safetensors.

    Attributes:
        classes: names under `architectures` that are read; the first is written.
        is_published: whether the class computes what a configuration of ours describes.
        config_from: (config.json, where) -> our configuration.
        config_to: the way back.
        state_from: (tensors, our configuration, where) -> our tensors, all of them.
        state_to: the way back.
        images: whether it classifies images, and so names classes and says how pictures are prepared.
        by_config: whether `state_to` also takes the configuration, since names depend on it.
        use: config.json -> what is needed to use the model, where it was not exported from here.
        completed: (our configuration, config.json, names of the tensors) -> the configuration with what the
            tensors alone show.
        generates: whether it writes text, and so says how.
    """

    classes: tuple[str, ...]
    is_published: Callable[[Any], bool]
    config_from: Callable[[Mapping[str, Any], str], Any]
    config_to: Callable[[Any], dict[str, Any]]
    state_from: Callable[[State, Any, str], dict[str, Tensor]]
    state_to: Callable[..., dict[str, Tensor]]
    images: bool = False
    by_config: bool = False
    use: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    completed: Callable[[Any, Mapping[str, Any], Iterable[str]], Any] | None = None
    generates: bool = True

    def published(self, state: State, config: Any) -> dict[str, Tensor]:
        """The tensors of a model under their published names."""
        return self.state_to(state, config) if self.by_config else self.state_to(state)


def _bert(kind: bert.Kind) -> Architecture:
    return Architecture(
        bert.CLASSES[kind],
        partial(bert.is_published, kind=kind),
        partial(bert.config_from, kind=kind),
        partial(bert.config_to, kind=kind),
        partial(bert.state_from, kind=kind),
        partial(bert.state_to, kind=kind),
        by_config=True,
        use=partial(bert.use, kind=kind),
        completed=bert.completed,
        generates=False,
    )


def _llama(kind: str) -> Architecture:
    return Architecture(
        llama.CLASSES[kind],
        partial(llama.is_published, kind=kind),
        partial(llama.config_from, kind=kind),
        partial(llama.config_to, kind=kind),
        llama.state_from,
        llama.state_to,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(
        gpt2.CLASSES, gpt2.is_gpt2, gpt2.config_from, gpt2.config_to, gpt2.state_from, gpt2.state_to
    ),
    **{kind: _bert(kind) for kind in bert.CLASSES},
    **{kind: _llama(kind) for kind in llama.CLASSES},
    "resnet": Architecture(
        resnet.CLASSES,
        resnet.is_published,
        resnet.config_from,
        resnet.config_to,
        resnet.state_from,
        resnet.state_to,
        images=True,
    ),
    "t5": Architecture(
        t5.CLASSES, t5.is_published, t5.config_from, t5.config_to, t5.state_from, t5.state_to, use=t5.use
    ),
    "marian": Architecture(
        marian.CLASSES,
        marian.is_published,
        marian.config_from,
        marian.config_to,
        marian.state_from,
        marian.state_to,
        use=marian.use,
    ),
    "vit": Architecture(
        vit.CLASSES,
        vit.is_published,
        vit.config_from,
        vit.config_to,
        vit.state_from,
        vit.state_to,
        images=True,
    ),
}
"""model_type -> its row"""


def of(config: Any) -> Architecture | None:
    """The row of a configuration of ours; None where transformers has no such network."""
    return next((row for row in ARCHITECTURES.values() if row.is_published(config)), None)
