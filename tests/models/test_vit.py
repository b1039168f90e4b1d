"""ViT's sizes, its tokens, and positions brought to another grid."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from descent.errors import UserError
from descent.models.vit import ViT, ViTConfig

# Touvron et al. (2021), table 1, in millions (Ti 5, S 22, B 86); to the digit as timm counts them.
PARAMETERS = {"Ti": 5_717_416, "S": 22_050_664, "B": 86_567_656}


@pytest.mark.parametrize("size", PARAMETERS)
def test_the_published_networks_have_the_published_number_of_parameters(size: str) -> None:
    with torch.device("meta"):
        model = ViT(ViTConfig.published(size, inputs=(3, 224, 224), outputs=1000))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]


def small(**changes: object) -> ViT:
    config = ViTConfig.read({"inputs": [3, 8, 12], "outputs": 2, "depth": 1, "dim": 8, "heads": 2, "patch": 4,
                             **changes})  # fmt: skip
    model = ViT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def test_a_token_is_a_linear_map_of_its_patch_and_stands_in_row_order() -> None:
    model, images = small(), torch.randn(2, 3, 8, 12)
    seen: list[torch.Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(images)
    weight = model.embedding.weight.flatten(1)
    for row in range(2):
        for column in range(3):
            patch = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten(1)
            place = 1 + 3 * row + column
            expected = patch @ weight.T + model.embedding.bias + model.positions[:, place]
            torch.testing.assert_close(seen[0][:, place], expected)
    first = model.class_token[:, 0] + model.positions[:, 0]
    torch.testing.assert_close(seen[0][:, 0], first.expand(2, -1))


def test_the_head_sees_the_class_token_or_the_mean() -> None:
    images = torch.randn(2, 3, 8, 12)
    for pool in ("class", "mean"):
        model = small(pool=pool)
        tokens = model.features(images)
        seen = tokens[:, 0] if pool == "class" else tokens.mean(1)
        torch.testing.assert_close(model(images), F.linear(seen, model.head.weight, model.head.bias))
    assert tokens.shape == (2, 6, 8)


def test_positions_move_to_another_grid_and_the_rest_stays() -> None:
    source = small(inputs=[3, 16, 16])
    target = small(inputs=[3, 8, 12])
    moved = target.adapt(source.state_dict())
    assert moved["positions"].shape == (1, 1 + 6, 8)
    torch.testing.assert_close(moved["positions"][:, 0], source.positions[:, 0], rtol=0, atol=0)
    target.load_state_dict(moved)
    assert target(torch.randn(1, 3, 8, 12)).isfinite().all()
    same = small(inputs=[3, 16, 16]).adapt(source.state_dict())
    torch.testing.assert_close(same["positions"], source.positions, rtol=0, atol=0)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_positions_linear_in_row_and_column_stay_so_on_a_grid_of_any_shape(pool: str) -> None:
    def planes(rows: int, columns: int) -> torch.Tensor:
        """Row and column of every token's middle, in shares of the image, with a slope for each channel."""
        down, across = (torch.arange(n) + 0.5 for n in (rows, columns))
        plane = down[:, None, None] / rows * torch.arange(1, 9) + across[:, None] / columns * torch.arange(
            8, 0, -1
        )
        return plane.flatten(0, 1)[None]

    first = int(pool == "class")
    source, target = (small(inputs=[3, 4 * r, 4 * c], pool=pool) for r, c in ((6, 12), (12, 6)))
    with torch.no_grad():
        source.positions[:, first:] = planes(6, 12)
    state = source.state_dict()
    moved = target.adapt(state, source.config.grid)["positions"][:, first:].unflatten(1, (12, 6))
    expected = planes(12, 6).unflatten(1, (12, 6))
    inner = (slice(None), slice(4, 8), slice(2, 4))  # where no border comes in
    torch.testing.assert_close(moved[inner], expected[inner], rtol=1e-5, atol=1e-5)
    turned = target.adapt(state)["positions"]  # as many, and no word on their grid: as they are
    torch.testing.assert_close(turned, source.positions, rtol=0, atol=0)
    assert target.adapt(state, (5, 5))["positions"] is state["positions"], "no grid of theirs"


def test_another_size_of_image_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="one size of image"):
        small()(torch.randn(1, 3, 12, 12))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inputs": [3, 9, 8], "patch": 4}, "multiples of 4"),
        ({"inputs": [3, 10, 8], "dim": 8, "heads": 2, "stem": [4, 8]}, "multiples of 4"),
        ({"dim": 10, "heads": 3}, "multiple of heads"),
        ({"dim": 8, "heads": 2, "stem": [4, 4]}, "must be dim"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ViTConfig.model_validate(options)
