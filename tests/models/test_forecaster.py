"""The recurrent forecaster: what it reads, what it says, and what must not matter to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.forecaster import Forecaster, ForecasterConfig

B, T, H, C, OUT, K = 3, 14, 10, 4, 3, 2
MODES = ("direct", "autoregressive")


def forecaster(**changes: Any) -> Forecaster:
    """In evaluation mode, every weight drawn at random."""
    sizes = {"channels": C, "outputs": OUT, "known": K, "horizon": H, "dim": 12, "patch": 4, "dropout": 0.3}
    torch.manual_seed(0)
    model = Forecaster(ForecasterConfig.read({**sizes, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model.eval()


def window() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, T, C), torch.randn(B, T + H, K)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"apart": False}, {"quantiles": 3}, {"apart": False, "quantiles": 5}, {"patch": 1, "depth": 2},
     {"known": 0}, {"channels": OUT}, {"cell": "gru"}, {"horizon": 3}],
)  # fmt: skip
def test_shapes_and_gradients(mode: str, changes: dict[str, Any]):
    model = forecaster(mode=mode, **changes)
    c = model.config
    history, known = torch.randn(B, T, c.channels), torch.randn(B, T + c.horizon, c.known)
    found = model(history, known)
    shape = (B, c.horizon, c.outputs)
    assert found.shape == ((*shape, c.quantiles) if c.quantiles else shape)
    model.train()(history, known).square().sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("apart", [True, False])
def test_a_window_is_forecast_alone(mode: str, apart: bool):
    model, (history, known) = forecaster(mode=mode, apart=apart), window()
    alone = torch.cat([model(history[i : i + 1], known[i : i + 1]) for i in range(B)])
    assert_close(model(history, known), alone)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["last", "mean", "standard"])
def test_a_shifted_level_shifts_the_forecast(mode: str, kind: str):
    model, (history, known) = forecaster(mode=mode, level=kind), window()
    moved = model(history + 7, known)
    assert_close(moved, model(history, known) + 7, atol=2e-4, rtol=1e-4)
    if kind == "standard":
        assert_close(model(3 * history, known), 3 * model(history, known), atol=1e-2, rtol=1e-3)
    unmoved = forecaster(mode=mode, level="none")
    assert not torch.allclose(unmoved(history + 7, known), unmoved(history, known) + 7, atol=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_targets_apart_see_their_own_past_and_the_inputs_only(mode: str):
    model, (history, known) = forecaster(mode=mode), window()
    before = model(history, known)
    history[:, -6, 0] += 1  # a target
    after = model(history, known)
    assert_close(after[..., 1:], before[..., 1:])
    assert not torch.allclose(after[..., 0], before[..., 0])
    history[:, -6, OUT] += 1  # a column that is an input only
    assert ((model(history, known) - after).abs().amax((0, 1)) > 1e-4).all()


@pytest.mark.parametrize("mode", MODES)
def test_oldest_steps_that_fill_no_patch_do_not_matter(mode: str):
    model, (history, known) = forecaster(mode=mode), window()
    before = model(history, known)
    history[:, : T % 4] += 1
    known[:, : T % 4] += 1
    assert_close(model(history, known), before)
    history[:, T % 4] += 1
    assert not torch.allclose(model(history, known), before)


def test_what_is_planned_matters_from_its_own_patch_on():
    """Direct: to its patch alone. Autoregressive: to its patch and, through the state, to those after."""
    for mode, later in (("direct", False), ("autoregressive", True)):
        model, (history, known) = forecaster(mode=mode), window()
        before = model(history, known)
        known[:, T + 4 : T + 8] += 1
        moved = (model(history, known) - before).abs().amax((0, 2))
        assert not moved[:4].any()
        assert (moved[4:8] > 1e-4).all()
        assert bool(moved[8:].any()) == later


@pytest.mark.parametrize("quantiles", [0, 3])
def test_autoregression_is_reading_on_what_was_said(quantiles: int):
    """The second patch is the first of a window that ends with the median of the first, inputs held."""
    changes = {"level": "none", "apart": False, "quantiles": quantiles}
    model, (history, known) = forecaster(mode="autoregressive", **changes), window()
    found = model(history, known)
    first = found[:, :4, :, 1] if quantiles else found[:, :4]
    still = history[:, -1:, OUT:].expand(-1, 4, -1)
    longer = torch.cat([history, torch.cat([first, still], dim=2)], dim=1)
    plan = torch.cat([known, torch.randn(B, 4, K)], dim=1)
    assert_close(model(longer, plan)[:, :4], found[:, 4:8])


def test_an_untrained_forecaster_says_the_level():
    torch.manual_seed(0)
    model = Forecaster(ForecasterConfig(channels=C, outputs=OUT, known=K, horizon=H))
    history, known = window()
    assert_close(model(history, known), history[:, -1:, :OUT].expand(-1, H, -1))


def test_sizes_and_quantiles_are_checked():
    with pytest.raises(UserError, match="not complete: channels, outputs, horizon"):
        Forecaster(ForecasterConfig())
    with pytest.raises(UserError, match="odd number"):
        ForecasterConfig.read({"quantiles": 2})
