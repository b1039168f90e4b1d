"""What a recipe of sequences may not be: one that would see its targets, or answer at the wrong places."""

from __future__ import annotations

import pytest

from descent.errors import UserError
from descent.recipes import resolve


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("lstm-chorales", "model.bidirectional=true", "would let the model see"),
        ("lstm", "model.bidirectional=true", "would let the model see"),
        ("lstm", "model.pool=last", "model.pool must be none"),
        ("lstm-chorales", "model.pool=mean", "model.pool must be none"),
        ("lstm-fsdd-ctc", "model.pool=max", "model.pool must be none"),
        ("lstm-fsdd", "model.pool=none", "one answer a row"),
        ("adding-lstm", "model.pool=none", "one answer a row"),
    ],
)
def test_a_reading_that_does_not_fit_is_refused(name: str, change: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        resolve(name, [change])


def test_a_model_may_hear_both_ways_where_nothing_is_predicted() -> None:
    assert resolve("lstm-fsdd", []).model.table()["bidirectional"]
