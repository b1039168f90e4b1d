"""The pictures of a run: drawn from any log, in any language, without display, warnings or global state."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from descent.runs import plots
from descent.runs.class_plots import confusion_matrix
from descent.runs.plots import curves


def log(steps, **more):
    lines = []
    for step in range(1, steps + 1):
        lines.append(
            {"event": "step", "step": step, "loss": 2 + 3 / step, "learning_rate": 0.1, "seconds": step}
        )
        if step % max(1, steps // 5) == 0:
            lines.append({"event": "evaluation", "step": step, "split": "validation", "loss": 2.5, **more})
    return lines


def ink(path):
    """How many pixels are not white; a picture that was drawn has some."""
    with Image.open(path) as image:
        return int((np.asarray(image.convert("L")) < 250).sum()), image.size


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_curves_are_drawn(tmp_path):
    paths = curves(log(200, accuracy=0.9), tmp_path / "plots", "lenet on 唐诗 🌙 $\\frac{$ _a_")
    assert paths == [tmp_path / "plots" / "curves.png"]
    dark, (width, height) = ink(paths[0])
    assert dark > 20_000
    assert width == 1350
    assert height > 1200


def test_a_second_metric_gets_a_panel(tmp_path):
    _, (_, without) = ink(curves(log(50), tmp_path / "a", "x")[0])
    _, (_, beside) = ink(curves(log(50, accuracy=0.5), tmp_path / "b", "x")[0])
    assert beside == without + 360


@pytest.mark.parametrize(
    "lines",
    [
        [{"event": "step", "step": 1, "loss": 2.0, "learning_rate": 0.0, "seconds": 1}],
        [{"event": "step", "step": 1, "loss": 0.0}, {"event": "step", "step": 2, "loss": -1.0}],
        [{"event": "step", "step": n, "loss": 1.0} for n in range(5)],
        [{"event": "evaluation", "step": 3, "split": "validation", "loss": 1.0, "r2": 0.5}],
        [{"event": "step", "step": n, "loss": 1e6 if n == 1 else 1e-9 * n} for n in range(1, 99)],
        [
            {"event": "step", "step": n, "loss": 9, "losses": {"critic": 1.0, "generator": n}}
            for n in range(99)
        ],
    ],
    ids=["one step", "zero and below", "flat", "evaluation alone", "spike", "phases"],
)
def test_odd_logs_are_drawn_too(tmp_path, lines):
    assert ink(curves(lines, tmp_path, "odd")[0])[0] > 1000


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert curves([], tmp_path / "plots", "empty") == []
    assert (
        curves([{"event": "start", "step": 0}, {"event": "step", "step": 1, "loss": None}], tmp_path, "x")
        == []
    )
    assert not (tmp_path / "plots").exists()


def test_the_best_point_is_the_lowest_loss_and_the_highest_accuracy():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plots._mark_best(axes, [1, 2, 3], [0.5, 0.1, 0.3], "loss")
    plots._mark_best(axes, [1, 2, 3], [0.5, 0.1, 0.3], "accuracy")
    assert [text.get_text() for text in axes.texts] == ["best 0.1000 at step 2", "best 50.00% at step 1"]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[2, 0.1]], [[1, 0.5]]]


def test_smoothing_follows_a_line_exactly_and_calms_noise():
    line = np.linspace(5, 1, 400)
    assert np.allclose(plots._smooth(line)[:350], line[:350], atol=1e-9)
    noisy = line + np.random.default_rng(0).normal(0, 1, 400)
    assert np.abs(plots._smooth(noisy) - line)[20:].std() < 0.25
    assert plots._smooth(np.array([3.0, 1.0])).tolist() == [3.0, 1.0]


def test_confusion_matrix_is_drawn(tmp_path):
    path = confusion_matrix([[50, 2], [1, 47]], ("良性 benign", "malignant"), tmp_path / "deep" / "c.png")
    assert path == tmp_path / "deep" / "c.png"
    assert ink(path)[0] > 10_000


def test_confusion_matrices_of_many_classes_and_of_none_right(tmp_path):
    rng = np.random.default_rng(0)
    many = rng.integers(0, 5, (100, 100)).tolist()
    assert ink(confusion_matrix(many, None, tmp_path / "many.png"))[0] > 10_000
    assert ink(confusion_matrix([[0, 0], [0, 0]], None, tmp_path / "zero.png"))[0] > 1000


def test_pyplot_is_not_imported(tmp_path):
    sys.modules.pop("matplotlib.pyplot", None)
    curves(log(5), tmp_path, "x")
    assert "matplotlib.pyplot" not in sys.modules
