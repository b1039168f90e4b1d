"""A model made ready for use: the same network with its weights laid out for inference on a CPU.

A step of decoding reads every weight once to multiply it by a few vectors, so it is as fast as the
weights can be read: linear layers are packed. It also has many small operations, whose number is what the
rest of the time goes to. A network of convolutions is held up by passes over its maps: each convolution is
made one with what follows it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from descent.nn.packed import PackedLinear, pays_to_pack


def prepare(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A twin of the model that is faster in inference and gives the same logits.

    On the CPU its larger linear layers are packed, and so are modules that have a form of their own for
    inference (`for_inference`); a copy of those weights is held. All other parameters and modules' settings
    are shared with the model, which itself is not changed. On other devices, or where PyTorch was built
    without oneDNN, the twin is as fast as the model.

    The twin is a picture of the weights as they are now: prepare again after training.

    Args:
        model: in any mode; the twin is in that of evaluation.
        dtype: float32 or bfloat16, in which packed layers compute; their weights' when not given. The others
            keep theirs: call a twin in bfloat16 within `torch.autocast`.
    """
    return _twin(model, dtype, {}).eval()


def _twin(module: nn.Module, dtype: torch.dtype | None, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    made[id(module)] = twin = _packed(module, dtype) or copy.copy(module)
    if type(twin) is type(module):
        tables: dict[str, Any] = twin.__dict__
        for name in ("_parameters", "_buffers", "_modules"):
            tables[name] = dict(tables[name])
        for name, child in module.named_children():
            twin._modules[name] = _twin(child, dtype, made)
        _pack_tied_head(twin, dtype)
    return twin


def _packed(module: nn.Module, dtype: torch.dtype | None) -> nn.Module | None:
    """The module in another form, if it has one."""
    if type(module) is nn.Linear and pays_to_pack(module.weight, dtype or module.weight.dtype):
        return PackedLinear(module.weight, module.bias, dtype)
    convert = getattr(module, "for_inference", None)
    return None if convert is None else convert(dtype)


def _pack_tied_head(twin: nn.Module, dtype: torch.dtype | None) -> None:
    """A head tied to the token embedding is no layer of its own in the model; packed it becomes one."""
    tokens = twin._modules.get("tokens")
    tied = getattr(twin, "head", twin) is None
    if (
        tied
        and isinstance(tokens, nn.Embedding)
        and pays_to_pack(tokens.weight, dtype or tokens.weight.dtype)
    ):
        twin.head = PackedLinear(tokens.weight, None, dtype)
