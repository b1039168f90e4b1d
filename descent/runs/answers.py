"""What models of sequences say of a new file: a recording, or a series that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from descent.data.series_new import forecast_values, prepare_series
from descent.data.sound import prepare_clip
from descent.evaluation import at_home

KINDS = ("sound", "series")
"""Kinds of data whose examples differ in length, so that each is answered alone."""


def heard(model: nn.Module, preparation: Mapping[str, Any], item: Any) -> tuple[Tensor, Tensor]:
    """Outputs for one recording, a batch of one, and its length in frames.

    Raises:
        UserError: the file cannot be read or has no sample.
    """
    clip = prepare_clip(preparation, item)
    with torch.inference_mode():
        outputs = model(at_home(model, clip["inputs"]), lengths=clip["lengths"].to(_device(model)))
    return outputs.float().cpu(), clip["lengths"]


def forecast(model: nn.Module, preparation: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """What follows the last row of a file, in the units of its columns.

    Raises:
        UserError: the file is too short or faulty, or its columns are not those of training.
    """
    window = prepare_series(preparation, path)
    with torch.inference_mode():
        outputs = model(**{name: at_home(model, value) for name, value in window.batch().items()})
    said = outputs[0].float().cpu()
    return {"forecast": forecast_values(preparation, said, window.times, preparation["quantiles"])}


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
