"""The pictures of a run: drawn from any log, in any language, without display, warnings or global state."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from descent.errors import UserError
from descent.evaluation import Calibration
from descent.runs import class_plots, figure, plots
from descent.runs.class_plots import confusion_matrix, mistakes_sheet, reliability_diagram
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


@pytest.fixture
def texts(monkeypatch):
    """What is written on each figure that is drawn."""
    from matplotlib.text import Text

    found = []
    original = class_plots.save

    def save(figure, path):
        found.append([text.get_text() for text in figure.findobj(Text) if text.get_text()])
        return original(figure, path)

    for module in (class_plots, figure):
        monkeypatch.setattr(module, "save", save)
    return found


@pytest.mark.parametrize("classes", [2, 10, 30, 100])
def test_a_confusion_matrix_says_what_was_counted(tmp_path, texts, classes):
    counts = np.zeros((classes, classes), dtype=int)
    counts[0, :2] = 3, 1
    counts[1, 1] = 1234
    path = confusion_matrix(counts.tolist(), None, tmp_path / "c.png")
    assert ink(path)[0] > 5000
    assert max(ink(path)[1]) < 3000
    assert "1,237 of 1,238 right (99.92%)" in texts[0]
    cells = {"1,234", "3", "75.0%", "25.0%", "100%"} if classes <= 10 else {"1,234"}
    assert (cells <= set(texts[0])) == (classes <= 30)
    names = [str(number) for number in range(classes)]
    assert [text for text in texts[0] if text in names].count(names[-1]) >= 2


def test_names_of_classes_are_shown_whole_cut_or_by_number(tmp_path, texts, monkeypatch):
    long = "a_very_long_name_without_a_single_blank"
    names = ["猫", "dog  of\nthe house", long, "a long name of many short words"]
    monkeypatch.setattr(class_plots, "drawable", lambda names: ["0", *names[1:]])
    confusion_matrix(np.eye(4, dtype=int).tolist(), names, tmp_path / "c.png")
    shown = ["0", "dog of the house", "a_very_long_name_with…", "a long name of many s…"]
    assert all(texts[0].count(name) >= 2 for name in shown), texts[0]


def test_a_name_that_no_font_holds_is_its_number(monkeypatch):
    monkeypatch.setattr(figure, "_glyphs", lambda: frozenset(map(ord, "abc ")))
    assert figure.drawable(["a b", "猫", "cab"]) == ["a b", "1", "cab"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"), (1e-6, "<0.01%"), (0.0051, "0.51%"), (0.0996, "10.0%"), (0.5, "50.0%"),
        (0.9994, "99.9%"), (0.9997, "99.97%"), (1 - 1e-9, "99.99%"), (1, "100%"),
    ],
)  # fmt: skip
def test_a_share_is_certain_only_where_it_is(share, text):
    assert figure.percent(share) == text


def test_a_figure_is_a_png(tmp_path):
    assert figure.png("a/B.PNG").name == "B.PNG"
    (tmp_path / "folder.png").mkdir()
    for wrong in ("x.pdf", "x", tmp_path / "folder.png"):
        with pytest.raises(UserError, match="must be a PNG"):
            figure.png(wrong)


def test_chinese_names_are_drawn(tmp_path):
    names = ["猫", "狗", "苹果树和一个非常非常非常长的中文类别名字还没有结束", "🐟 fish", "$x^"]
    assert ink(confusion_matrix(np.eye(5, dtype=int).tolist(), names, tmp_path / "c.png"))[0] > 5000
    images = [np.zeros((4, 4, 3), dtype=np.uint8)] * 2
    captions = [(names[0], names[2], 0.99), (names[4], names[3], 0.5)]
    assert ink(mistakes_sheet(images, captions, "两张", tmp_path / "m.png"))[0] > 5000


def test_a_reliability_diagram_is_drawn(tmp_path, texts):
    counts, none = (0, 1, 0, 999), None
    found = Calibration(0.1234, 0.4, counts, (none, 0.4, none, 0.95), (none, 0.0, none, 0.8266))
    path = reliability_diagram(found, tmp_path / "deep" / "r.png")
    assert ink(path)[0] > 10_000
    assert "Reliability: ECE 12.3%" in texts[0]
    assert "accuracy 82.6%, mean confidence 94.9%; 1,000 examples in 4 bins" in texts[0]


def test_the_bars_of_a_reliability_diagram_end_where_they_should(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(class_plots, "save", lambda figure, path: drawn.append(figure) or path)
    found = Calibration(0.1, 0.3, (2, 0, 4), (0.3, None, 0.9), (0.5, None, 0.6))
    reliability_diagram(found, tmp_path / "r.png")
    upper, lower = drawn[0].axes
    tops = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in upper.patches]
    assert np.allclose(tops, [(0, 0.5), (0, 0.6), (0.6, 0.9), (0.3, 0.5)])
    assert [bar.get_height() for bar in lower.patches] == [2, 4]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in lower.patches]
    assert np.allclose(middles, [1 / 6, 5 / 6])


def test_a_reliability_diagram_of_nothing(tmp_path):
    nothing = Calibration(0.0, 0.0, (0, 0), (None, None), (None, None))
    assert ink(reliability_diagram(nothing, tmp_path / "r.png"))[0] > 1000


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (90, 60, 3), (1, 40, 3)])
@pytest.mark.parametrize("count", [1, 7])
def test_a_sheet_of_mistakes_shows_the_images(tmp_path, texts, shape, count):
    images = [np.full(shape, 60 + 10 * n, dtype=np.uint8) for n in range(count)]
    captions = [("three", "eight", 0.999_996), *[("a", "b", 0.087)] * 6][:count]
    path = mistakes_sheet(images, captions, "some of 9 mistakes", tmp_path / "m.png")
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("L")).astype(int)
    least = 150 if shape[0] == 1 else 5000
    assert all((abs(pixels - 60 - 10 * n) <= 1).sum() > least for n in range(count)), "each image is there"
    assert "some of 9 mistakes" in texts[0]
    assert "three \N{RIGHTWARDS ARROW}\neight 99.99%" in texts[0], "what is not certain is not 100%"
    assert count == 1 or "a \N{RIGHTWARDS ARROW}\nb 8.7%" in texts[0]


def test_confusion_matrices_of_many_classes_and_of_none_right(tmp_path):
    rng = np.random.default_rng(0)
    many = rng.integers(0, 5, (100, 100)).tolist()
    assert ink(confusion_matrix(many, None, tmp_path / "many.png"))[0] > 10_000
    assert ink(confusion_matrix([[0, 0], [0, 0]], None, tmp_path / "zero.png"))[0] > 1000


def test_pyplot_is_not_imported(tmp_path):
    sys.modules.pop("matplotlib.pyplot", None)
    curves(log(5), tmp_path, "x")
    assert "matplotlib.pyplot" not in sys.modules
