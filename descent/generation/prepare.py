"""A model made ready for decoding: the same network with its matrices laid out for one token at a time.

A step of decoding reads every weight once to multiply it by a few vectors, so it is as fast as the
weights can be read. oneDNN reads a matrix in its own blocked layout up to twice as fast as one in rows
(`benchmarks/` measures it), but PyTorch converts into that layout at every call unless it is kept. A
step also has many small operations, whose number is what the rest of the time goes to.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_SMALLEST = 2**16  # below this many weights a layer gains nothing
_DTYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Module):
    """y = x A^T + b with A in oneDNN's layout: for inference on the CPU, not to be trained or saved.

    Args:
        weight: (out, in), float32 or bfloat16 on the CPU; copied, so later changes to it are not seen.
        bias: (out,) or None.
    """

    def __init__(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None):
        super().__init__()
        self.shape = tuple(weight.shape)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    def extra_repr(self) -> str:
        return f"{self.shape[1]}, {self.shape[0]}, bias={self.bias is not None}"


def prepare(model: nn.Module) -> nn.Module:
    """A twin of the model that decodes faster and gives the same logits.

    On the CPU its larger linear layers are packed (once; a copy of those weights is held). All other
    parameters and modules' settings are shared with the model, which itself is not changed. On other
    devices, or where PyTorch was built without oneDNN, the twin is as fast as the model.

    The twin is a picture of the weights as they are now: prepare again after training.
    """
    return _twin(model, {}).eval()


def _twin(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    if type(module) is nn.Linear and _packable(module.weight):
        twin: nn.Module = PackedLinear(module.weight, module.bias)
    else:
        twin = copy.copy(module)
        tables: dict[str, Any] = twin.__dict__
        for name in ("_parameters", "_buffers", "_modules"):
            tables[name] = dict(tables[name])
        for name, child in module.named_children():
            twin._modules[name] = _twin(child, made)
        _pack_tied_head(twin)
    made[id(module)] = twin
    return twin


def _pack_tied_head(twin: nn.Module) -> None:
    """A head tied to the token embedding is no layer of its own in the model; packed it becomes one."""
    tokens = twin._modules.get("tokens")
    tied = getattr(twin, "head", twin) is None
    if tied and isinstance(tokens, nn.Embedding) and _packable(tokens.weight):
        twin.head = PackedLinear(tokens.weight, None)


def _packable(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype in _DTYPES
        and weight.numel() >= _SMALLEST
        and torch.backends.mkldnn.is_available()
        and (weight.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
