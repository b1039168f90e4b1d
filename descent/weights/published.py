"""Files of weights under the names of torchvision and timm, and folders in timm's layout.

    torchvision/resnet50           a file of tensors whose configuration follows from the name
    timm/vit_base_patch16_224      the same, or a folder whose config.json says
                                   {"architecture", "num_classes", "model_args", "pretrained_cfg"}

torchvision publishes pickles, which are never opened here: convert one where you trust it, with
`safetensors.torch.save_file(torch.load(file, weights_only=True), "resnet50.safetensors")`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from descent.config import Config
from descent.errors import UserError, unknown
from descent.models.alexnet import AlexNetConfig
from descent.models.resnet import ResNetConfig
from descent.models.vit import ViTConfig
from descent.weights import alexnet, preprocessor, resnet, safetensors_file, vit
from descent.weights.classes import distinct
from descent.weights.fields import check, size_of
from descent.weights.keymap import KeyMap, model_shapes
from descent.weights.pretrained import Pretrained

Published = type[ResNetConfig] | type[ViTConfig] | type[AlexNetConfig]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IDLE = {"dropout", "zero_init"}  # without effect on what a trained network computes
_FITS = {"center": "crop", "squash": "stretch", "border": "pad"}


@dataclass(frozen=True)
class Name:
    """One published network.

    Attributes:
        kind: our configuration's class.
        size: its name there.
        keys: the names of its weights.
        normalisation: mean and deviation of each channel, of pixels in 0..1.
        pool: what timm's `global_pool` says of it.
    """

    kind: Published
    size: str
    keys: KeyMap
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET
    pool: str = "avg"

    def config(self, **changes: Any) -> Any:
        """Our configuration, for 1,000 classes and images of 3 x 224 x 224 unless changed."""
        return self.kind.published(self.size, **{"inputs": (3, 224, 224), "outputs": 1000, **changes})


_RESNETS = ("18", "34", "50", "101", "152")
_VITS = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}

NAMES: dict[str, Name] = {
    "torchvision/alexnet": Name(AlexNetConfig, "2014", alexnet.TORCHVISION),
    **{f"torchvision/resnet{s}": Name(ResNetConfig, s, resnet.TORCHVISION) for s in _RESNETS},
    **{f"torchvision/vit_{s.lower()}_16": Name(ViTConfig, s, vit.TORCHVISION) for s in ("B", "L")},
    **{f"timm/resnet{s}": Name(ResNetConfig, s, resnet.TORCHVISION) for s in _RESNETS},
    **{
        f"timm/vit_{word}_patch16_224": Name(ViTConfig, s, vit.TIMM, _HALF, "token")
        for s, word in _VITS.items()
    },
}


def read(
    path: Path | str, name: str, *, allow_nonfinite: bool = False, labels: tuple[str, ...] | None = None
) -> Pretrained:
    """A .safetensors file of published weights; the number of classes is that of its head.

    Args:
        path: the file.
        name: a key of `NAMES`: the library, and the network as it is called there.
        allow_nonfinite: take weights with NaN or infinite values too.
        labels: the names of the classes, in the order of the outputs.

    Raises:
        UserError: no such name or file, or it holds other tensors than that network has.
        CorruptArtifact: the file is not whole, or a pickle.
    """
    entry = _entry(name)
    tensors = safetensors_file.read(Path(path), allow_nonfinite=allow_nonfinite)
    head = tensors.get(entry.keys.names("head.weight")[0])
    outputs = 1000 if head is None or not head.numel() else head.shape[0]
    if labels is not None and len(labels) != outputs:
        raise UserError(f"{path} has {outputs:,} classes", got=f"{len(labels):,} labels")
    config = entry.config(outputs=outputs)
    prepared = preprocessor.images(config.inputs, "crop", *entry.normalisation, labels)
    return _pretrained(entry, config, tensors, prepared, str(path))


def tensors_of(model: nn.Module, name: str) -> dict[str, Tensor]:
    """A model's weights under the names of `NAMES[name]`.

    Raises:
        UserError: no such name, or the model is another network. Its classes are free, and so is the size of
            its images, but for an AlexNet, whose last maps must be 6 x 6: torchvision makes them so.
    """
    entry = _entry(name)
    config: Any = model.config
    expected = entry.config(inputs=config.inputs, outputs=config.outputs).table()
    table = config.table()
    other = [key for key in expected.keys() | table.keys() if table.get(key) != expected.get(key)]
    other = sorted(set(other) - _IDLE)
    if other:
        raise UserError(
            f"this model is not {name}",
            got=", ".join(f"{key}={table.get(key)}" for key in other),
            expected=", ".join(f"{key}={expected.get(key)}" for key in other),
        )
    if isinstance(config, AlexNetConfig) and config.last_map() != (6, 6):
        raise UserError(
            f"this model is not {name}: its fully connected layers see maps of another size",
            got=" x ".join(map(str, config.last_map())),
            expected="6 x 6, as of images of 224 x 224",
        )
    return entry.keys.to_theirs(safetensors_file.unshared(model.state_dict()))


def is_timm(table: Mapping[str, Any]) -> bool:
    """Whether a config.json is timm's."""
    return "model_type" not in table and "architecture" in table


def config_from(table: Mapping[str, Any], where: str) -> Any:
    """Our configuration for timm's config.json.

    Raises:
        UserError: a network that is not in `NAMES`, or changed by arguments that are not known here.
    """
    entry, arguments = _timm(table, where), _table(table, "model_args", where)
    known = {"num_classes", "in_chans", "img_size", "global_pool"}
    strange = sorted(arguments.keys() - known)
    if strange:
        raise UserError(f"{where}: model_args that are not known here: {', '.join(strange)}")
    for fields in (table, arguments):
        check(fields, where, table["architecture"], {"global_pool": (entry.pool,)}, ())
    size = _input_size(table, where)
    channels = arguments.get("in_chans", size[0])
    sides = size_of(arguments.get("img_size", list(size[1:])), where, "img_size")
    count = table.get("num_classes", arguments.get("num_classes", 1000))
    if type(count) is not int or count < 1:
        raise UserError(f"{where}: num_classes", got=count, expected="1 or more: a model with a head")
    return entry.config().replace(inputs=[channels, *sides], outputs=count)


def read_timm(
    table: Mapping[str, Any], config: Config, tensors: Mapping[str, Tensor], where: str
) -> Pretrained:
    """What a folder in timm's layout holds; `config` comes from `config_from`."""
    entry, shape = _timm(table, where), getattr(config, "inputs", ())
    cfg = {"image_mean": entry.normalisation[0], "image_std": entry.normalisation[1]}
    given = _table(table, "pretrained_cfg", where)
    cfg |= {f"image_{key}": given[key] for key in ("mean", "std") if key in given}
    cfg = {key: list(value) if isinstance(value, tuple) else value for key, value in cfg.items()}
    fit = _FITS.get(given.get("crop_mode", "center"))
    if fit is None:
        raise UserError(f"{where}: crop_mode", got=given["crop_mode"], expected=" or ".join(_FITS))
    names = table.get("label_names", given.get("label_names"))
    prepared = preprocessor.preparation_from({**cfg, "size": 1}, shape, _labels(names, config, where), where)
    return _pretrained(entry, config, tensors, {**prepared, "fit": fit}, where)


def _labels(names: Any, config: Any, where: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: label_names", got=names, expected="a list of names")
    if len(names) != config.outputs:
        raise UserError(f"{where}: label_names names {len(names):,} of {config.outputs:,} classes")
    return distinct(names)


def _pretrained(
    entry: Name, config: Any, tensors: Mapping[str, Tensor], preparation: dict[str, Any], where: str
) -> Pretrained:
    state = entry.keys.to_ours(tensors, model_shapes(config, tensors, where), where)
    labels = {"labels": preparation["labels"]} if "labels" in preparation else {}
    return Pretrained(
        config, state, None, {}, {**labels, "preparation": preparation, "loss": "cross_entropy"}
    )


def _timm(table: Mapping[str, Any], where: str) -> Name:
    name = f"timm/{table['architecture']}"
    if name not in NAMES:
        names = [key.removeprefix("timm/") for key in NAMES if key.startswith("timm/")]
        raise UserError(
            f"{where}: this architecture is not known",
            got=table["architecture"],
            expected="one of " + ", ".join(names),
        )
    return NAMES[name]


def _table(table: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise UserError(f"{where}: {name}", got=found, expected="a table")
    return found


def _input_size(table: Mapping[str, Any], where: str) -> tuple[int, int, int]:
    size = _table(table, "pretrained_cfg", where).get("input_size", [3, 224, 224])
    if not isinstance(size, list) or len(size) != 3 or type(size[0]) is not int:
        raise UserError(f"{where}: input_size", got=size, expected="channels, height and width")
    return (size[0], *size_of(size[1:], where, "input_size"))


def _entry(name: str) -> Name:
    if name not in NAMES:
        raise unknown("published network", name, NAMES)
    return NAMES[name]
