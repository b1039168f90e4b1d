"""What a recipe claims is what the ledger holds."""

from __future__ import annotations

import pytest

from descent import ledger
from descent.recipes import CATALOG, get
from descent.recipes.claims import CLAIMS

CLAIMED = [name for name in CATALOG if get(name).claim is not None]


@pytest.mark.parametrize("name", CLAIMED)
def test_a_claim_stands_in_the_ledger(name: str) -> None:
    claim = get(name).claim
    assert claim is not None
    held = {entry["id"]: entry for entry in ledger.entries()}
    entry = held[f"{name}-{claim.split}-{claim.metric}".replace("_", "-")]
    assert claim.value == pytest.approx(entry["value"], abs=1e-4)
    assert [min(claim.values), max(claim.values)] == pytest.approx(entry["spread"], abs=1e-4)
    assert (list(claim.seeds), claim.minutes) == (entry["seeds"], entry["minutes"])
    assert claim.machine == entry["machine"]


def test_the_recipes_that_were_measured_say_so() -> None:
    assert set(CLAIMS) == set(CLAIMED)
    assert {"gpt-shakespeare", "mlp-mnist", "lenet-mnist", "lenet-digits"} <= set(CLAIMED)
