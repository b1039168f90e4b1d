"""The report of a classifier: figures, the most wrong images, and every number behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_tools import tiny

from descent.errors import UserError
from descent.evaluation import calibration, class_scores
from descent.recipes import resolve
from descent.runs import report as report_module
from descent.runs.run import Run
from descent.runs.train import train

FIGURES = {"confusion.png", "reliability.png"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("classifier")
    return train(tiny("mlp", folder, "budget.steps=60"), out=folder / "run", quiet=True)


def table(folder: Path, kind: str) -> Path:
    random = np.random.default_rng(0)
    lines = ["size,weight,y"]
    for number, (size, weight) in enumerate(random.normal(size=(90, 2)).round(3).tolist()):
        kinds = f"{size:.2f}" if kind == "regression" else ("猫", "dog", "fish")[number % 3]
        lines.append(f"{size},{weight},{kinds}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "t.csv"


def test_a_report_holds_the_figures_and_the_numbers_of_the_evaluation(
    classifier: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "report"
    found = classifier.report(folder)
    assert found.predictions is not None
    assert found.confusion is not None
    assert {path.name for path in folder.iterdir()} == FIGURES | {"mistakes.png", "report.json"}
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    again = classifier.evaluate()
    assert written["metrics"] == found.metrics == again.metrics
    assert written["confusion"] == again.confusion
    assert (written["recipe"], written["split"]) == ("mlp-digits", "test")
    assert written["examples"] == again.examples
    scores = class_scores(found.predictions)
    assert written["macro"] == scores.macro
    assert list(written["classes"]) == [str(number) for number in range(10)]
    confusion = np.array(found.confusion)
    for number, row in enumerate(written["classes"].values()):
        assert row["support"] == confusion[number].sum()
        assert row["recall"] == pytest.approx(confusion[number, number] / confusion[number].sum())
        assert row["precision"] == pytest.approx(
            confusion[number, number] / max(confusion[:, number].sum(), 1)
        )
    found_calibration = calibration(found.predictions)
    assert written["calibration"]["ece"] == found.metrics["ece"] == found_calibration.ece
    assert tuple(written["calibration"]["counts"]) == found_calibration.counts
    assert tuple(written["calibration"]["accuracy"]) == found_calibration.accuracy


def test_another_split_and_checkpoint_are_reported_when_asked(classifier: Run, tmp_path: Path) -> None:
    first = classifier.checkpoints[0][0]
    found = classifier.report(tmp_path, "validation", first)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written["split"] == "validation"
    assert written["metrics"] == found.metrics == classifier.evaluate("validation", first).metrics
    with pytest.raises(UserError, match="train, validation, test"):
        classifier.report(tmp_path, "tset")


def test_the_sheet_shows_the_images_that_were_taken_for_something_else(
    classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets = []
    monkeypatch.setattr(report_module, "mistakes_sheet", lambda *given: sheets.append(given) or given[-1])
    found = classifier.report(tmp_path, "validation")
    assert found.predictions is not None
    images, captions, facts, _ = sheets[0]
    wrong = np.flatnonzero(found.predictions.predicted != found.predictions.targets)
    worst = wrong[np.argsort(-found.predictions.confidence[wrong], kind="stable")][:36]
    assert len(images) == len(captions) == len(worst) <= 36
    assert f"{len(worst)} of {len(wrong)} mistakes among {found.examples:,} images" in facts
    parts = classifier.parts()
    split, prepared = parts.dataset.splits["validation"], parts.dataset.preparation
    for number, image, (true, predicted, share) in zip(worst, images, captions, strict=True):
        inputs = split.gather(np.array([number]))["inputs"][0, 0].numpy()
        pixels = 255 * (inputs * prepared["std"][0] + prepared["mean"][0])
        np.testing.assert_allclose(image[:, :, 0], pixels, atol=0.51)
        assert true == str(found.predictions.targets[number])
        assert predicted == str(found.predictions.predicted[number]) != true
        assert share == found.predictions.confidence[number]


def test_a_classifier_of_rows_has_no_images_to_show(tmp_path: Path) -> None:
    path = table(tmp_path, "classes")
    recipe = resolve(
        "linear-diabetes",
        [f"data.path={path}", "data.target=y", "objective.loss=cross_entropy", "budget.steps=5"],
    )
    run = train(recipe, out=tmp_path / "run", quiet=True)
    run.report(tmp_path / "report", "test")
    assert {path.name for path in (tmp_path / "report").iterdir()} == FIGURES | {"report.json"}
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert set(written["classes"]) == {"猫", "dog", "fish"}


def test_a_model_of_numbers_and_one_of_text_have_no_report(tmp_path: Path) -> None:
    path = table(tmp_path, "regression")
    recipe = resolve("linear-diabetes", [f"data.path={path}", "data.target=y", "budget.steps=5"])
    for run in (
        train(recipe, out=tmp_path / "numbers", quiet=True),
        train(tiny("gpt", tmp_path), out=tmp_path / "text", quiet=True),
    ):
        with pytest.raises(UserError, match="only a classifier"):
            run.report(tmp_path / "report", "validation")
    assert not (tmp_path / "report").exists()


def pictures(root: Path) -> Path:
    """Black and white squares in colour, which no model can fail to tell apart."""
    for number in range(60):
        folder = root / ("黑" if number % 2 else "白")
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (8, 8), (0, 0, number) if number % 2 else (255, 255, 255 - number))
        image.save(folder / f"{number}.png")
    return root


def test_a_model_without_mistakes_has_no_sheet_of_them(tmp_path: Path) -> None:
    data = f"data.path={pictures(tmp_path / '图')}"
    recipe = tiny("mlp", tmp_path, data, "budget.steps=60", "optimizer.learning_rate=0.01")
    run = train(recipe, out=tmp_path / "run", quiet=True)
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "mistakes.png").write_bytes(b"of an earlier model")
    found = run.report(folder, "train")
    assert found.metrics["accuracy"] == 1
    assert {path.name for path in folder.iterdir()} == FIGURES | {"report.json"}
    assert found.confusion is not None
    assert np.trace(found.confusion) == np.sum(found.confusion) == found.examples


def test_a_run_draws_its_confusion_and_calibration(classifier: Run) -> None:
    names = {path.name for path in classifier.plot()}
    assert {"curves.png"} | FIGURES == names
    line = [line for line in classifier.metrics if line.get("split") == "test"][-1]
    again = classifier.evaluate("test").metrics["ece"]
    assert line["calibration"]["ece"] == line["ece"] == pytest.approx(again)
    middle = next(line for line in classifier.metrics if line.get("split") == "validation")
    assert "calibration" not in middle
    assert "calibration" not in classifier.summary()["scores"]["test"]
