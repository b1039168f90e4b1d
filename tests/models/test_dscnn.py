"""DS-CNN: its layers against plain ones, and that padding never matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.dscnn import DSCNN, DSCNNConfig


def _model(seed: int = 0, **changes: object) -> DSCNN:
    torch.manual_seed(seed)
    config = DSCNNConfig(inputs=(11,), outputs=5, channels=7, depth=2).replace(**changes)
    model = DSCNN(config)
    for norm in model.modules():  # statistics that an error would show in
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_mean = torch.randn(7) * 0.3
            norm.running_var = torch.rand(7) + 0.5
            nn.init.normal_(norm.bias)
    return model


def _plainly(model: DSCNN, row: torch.Tensor) -> torch.Tensor:
    """The outputs for one row (T, M) by torch's own layers."""

    def norm(x: torch.Tensor, part: nn.BatchNorm1d) -> torch.Tensor:
        assert part.running_mean is not None
        assert part.running_var is not None
        return F.relu(F.batch_norm(x, part.running_mean, part.running_var, part.weight, part.bias))

    x = F.conv2d(F.pad(row[None, None], (1, 2, 4, 5)), model.first.weight, stride=2)
    x = norm(x, model.norm.norm)
    for block in model.blocks:
        x = norm(F.conv2d(x, block.depthwise.weight, padding=1, groups=7), block.depthwise_norm.norm)
        x = norm(F.conv2d(x, block.pointwise.weight), block.pointwise_norm.norm)
    return model.head(x.mean((2, 3)))[0]


@pytest.mark.parametrize("length", [1, 2, 9, 10, 23])
def test_a_row_goes_through_the_layers_of_the_paper(length: int) -> None:
    model = _model().eval()
    row = torch.randn(length, 11)
    assert_close(model(row[None])[0], _plainly(model, row), rtol=1e-5, atol=1e-6)


def test_padding_never_matters_in_evaluation() -> None:
    model = _model().eval()
    lengths = torch.tensor([4, 23, 1, 12])
    inputs = torch.randn(4, 31, 11)  # what lies behind the ends is no zero either
    together = model(inputs, lengths=lengths)
    for row, length, outputs in zip(inputs, lengths, together, strict=True):
        assert_close(outputs, _plainly(model, row[:length]), rtol=1e-5, atol=1e-6)


def test_padding_never_matters_in_training() -> None:
    lengths = torch.tensor([4, 23, 7])
    inputs = torch.randn(3, 23, 11)
    longer = torch.cat([inputs, torch.randn(3, 40, 11)], 1)
    first, second = _model().train(), _model().train()
    first(inputs, lengths=lengths).square().sum().backward()
    second(longer, lengths=lengths).square().sum().backward()
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        assert one.grad is not None, name
        assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5, msg=name)
    for one, two in zip(first.buffers(), second.buffers(), strict=True):
        assert_close(one, two)


def test_sizes_left_to_the_data_must_be_filled() -> None:
    with pytest.raises(UserError, match="inputs, outputs"):
        DSCNN(DSCNNConfig())


def test_the_small_size_of_the_paper_has_its_parameters() -> None:
    """Convolutions and head of DS-CNN-S: 10x4x64 + 4 (3x3x64 + 64x64) + 64x12 + 12."""
    model = DSCNN(DSCNNConfig(inputs=(10,), outputs=12))
    weights = sum(
        p.numel()
        for layer in model.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
        for p in layer.parameters()
    )
    assert weights == 2560 + 4 * (576 + 4096) + 780
