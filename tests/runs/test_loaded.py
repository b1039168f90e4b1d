"""A trained model in use, from Python: what it answers, and what it answers to wrong uses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_tools import tiny
from sklearn.datasets import load_digits

from descent.data import prepare_image
from descent.errors import CorruptArtifact, UserError
from descent.evaluation import averaged_logits, evaluate
from descent.models.resnet import ResNet, ResNetConfig
from descent.recipes import resolve
from descent.runs import loaded as loaded_module
from descent.runs.load import load
from descent.runs.loaded import Loaded
from descent.runs.run import Run
from descent.runs.train import train
from descent.training import checkpoint
from descent.weights.export import export


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("writer")
    return train(tiny("gpt", folder), out=folder / "run", quiet=True)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("classifier")
    changes = ["model.hidden=[64]", "budget.steps=400", "evaluation.every=200", "checkpoints.every=200"]
    return train(tiny("mlp", folder, *changes), out=folder / "run", quiet=True)


def digit(number: int) -> Image.Image:
    return Image.fromarray((load_digits().images[number] * 255 / 16).astype(np.uint8))


def test_the_same_seed_writes_the_same_text_streamed_or_not(writer: Run) -> None:
    loaded = writer.load()
    settings = {"max_new_tokens": 20, "temperature": 1.0}
    texts = [loaded.generate("river ", seed=seed, **settings) for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    pieces = list(loaded.stream("river ", seed=3, **settings))
    assert len(pieces) > 1
    assert "".join(pieces) == texts[0]


def test_greedy_text_is_the_most_probable_token_each_time(writer: Run) -> None:
    loaded = writer.load()
    assert loaded.tokenizer is not None
    tokens = loaded.tokenizer.encode("river ")
    written = []
    for _ in range(8):
        with torch.inference_mode():
            written.append(int(loaded.model(torch.tensor([tokens + written]))[0, -1].argmax()))
    done = loaded.complete(["river "], max_new_tokens=8, temperature=0.0)[0]
    assert done.tokens == written
    assert len(done.logprobs) == 8
    assert max(done.logprobs) < 0


def test_several_prompts_are_answered_as_each_alone(writer: Run) -> None:
    loaded, prompts = writer.load(), ["a", "river ", ""]
    together = loaded.complete(prompts, max_new_tokens=6, temperature=0.0)
    alone = [loaded.complete([prompt], max_new_tokens=6, temperature=0.0)[0] for prompt in prompts]
    assert [done.tokens for done in together] == [done.tokens for done in alone]


def test_new_weights_are_used_at_once(writer: Run) -> None:
    loaded, other = writer.load(), writer.load()
    loaded.generate("river ", max_new_tokens=4)
    with torch.no_grad():
        for model in (loaded.model, other.model):
            for parameter in model.parameters():
                parameter.mul_(-0.7)
    settings = {"max_new_tokens": 12, "temperature": 0.0}
    assert loaded.generate("river ", **settings) == other.generate("river ", **settings)


def test_a_prompt_follows_the_mark_that_documents_began_with(writer: Run, tmp_path: Path) -> None:
    packed = train(tiny("packed", tmp_path), out=tmp_path / "run", quiet=True).load()
    assert packed.tokenizer is not None
    marked = [packed.tokenizer.end, *packed.tokenizer.encode("ri")]
    with torch.inference_mode():
        first = int(packed.model(torch.tensor([marked]))[0, -1].argmax())
    assert packed.complete(["ri"], max_new_tokens=1, temperature=0.0)[0].tokens == [first]
    assert writer.load().preparation["marked"] == (writer.load().preparation["start"] == [256])


def test_recommended_ends_are_kept(writer: Run) -> None:
    loaded = writer.load()
    first = loaded.complete(["river "], max_new_tokens=1, temperature=0.0)[0].tokens[0]
    loaded.defaults = {"stop_ids": (first,)}
    done = loaded.complete(["river "], max_new_tokens=9, temperature=0.0)[0]
    assert (done.reason, done.text) == ("stop", "")


def test_only_files_the_manifest_names_are_read(writer: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(writer.folder, folder)
    weights = Run(folder).checkpoint("best") / "model.safetensors"
    shutil.copy(weights, weights.with_name("average.safetensors"))
    weights.with_name("average.safetensors").write_bytes(b"not even a safetensors file")
    assert Run(folder).load().generate("a", max_new_tokens=3, seed=1) == writer.load().generate(
        "a", max_new_tokens=3, seed=1
    )


@pytest.mark.parametrize("text", ["[]", "{", '{"labels": '])
def test_a_damaged_file_of_a_run_is_said_to_be_damaged(writer: Run, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(writer.folder, folder)
    (folder / "data.json").write_text(text, encoding="utf-8")
    with pytest.raises(CorruptArtifact, match=r"data\.json"):
        Run(folder).load()
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CorruptArtifact, match=r"recipe\.toml"):
        Run(folder).load()


def test_text_ends_at_the_stop_string_and_without_it(writer: Run) -> None:
    loaded = writer.load()
    free = loaded.generate("river ", max_new_tokens=20, seed=5, temperature=1.0)
    stop = next(character for character in free[1:] if character not in (free[0], "\ufffd"))
    done = loaded.complete(["river "], max_new_tokens=20, seed=5, temperature=1.0, stop=[stop])[0]
    assert done.text == free[: free.index(stop)]
    assert done.reason == "stop"


def test_images_of_any_kind_are_classified(classifier: Run, tmp_path: Path) -> None:
    loaded = classifier.load()
    images = [digit(number) for number in range(10)]
    images[3].convert("RGB").save(tmp_path / "three.png")
    found = loaded.predict(images)
    assert sum(row["label"] == str(number) for number, row in enumerate(found)) >= 8
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in found)
    assert loaded.predict(str(tmp_path / "three.png"))[0]["label"] == found[3]["label"]
    assert found[0]["probability"] == max(found[0]["probabilities"].values())


def test_what_a_model_cannot_do_is_said(writer: Run, classifier: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)writes no text.*use predict"):
        classifier.load().generate("hello")
    with pytest.raises(UserError, match=r"(?s)predicts no classes.*use generate"):
        writer.load().predict(digit(0))
    with pytest.raises(UserError, match=r"not there|does not exist|no such"):
        classifier.load().predict(tmp_path / "missing.png")
    with pytest.raises(UserError, match=r"(?s)generate.*temperature"):
        writer.load().generate("a", temprature=1.0)
    with pytest.raises(UserError, match="token ids"):
        writer.load().generate("a", beams=2, stop=["x"])
    with pytest.raises(UserError, match="context"):
        writer.load().generate("a" * 40)


def test_it_shows_itself_and_escapes_what_it_shows(writer: Run, classifier: Run) -> None:
    loaded = classifier.load()
    assert "MLP" in repr(loaded)
    assert "classes 10" in repr(loaded)
    assert "tokenizer" in repr(writer.load())
    named = Loaded(loaded.model, loaded.config, name="<script>alert(1)</script>")
    page = named._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    shown = writer._repr_html_()
    assert "data:image/png;base64," in shown
    assert "http" not in shown
    assert "<script" not in shown
    assert f"step {writer.step} of 7" in repr(writer)


def test_the_split_scored_unasked_is_the_one_the_run_ended_with(classifier: Run, writer: Run) -> None:
    assert classifier.default_split == "test"
    found = classifier.evaluate()
    assert found.metrics["accuracy"] == pytest.approx(classifier.summary()["scores"]["test"]["accuracy"])
    with pytest.raises(UserError, match="train, validation, test"):
        classifier.evaluate("tset")
    assert writer.default_split in ("test", "validation")


@pytest.mark.parametrize("kind", ["flip", "flip_shift"])
def test_views_of_an_image_are_averaged_wherever_the_run_is_used(tmp_path: Path, kind: str) -> None:
    run = train(tiny("mlp", tmp_path, f"evaluation.tta={kind}"), out=tmp_path / "run", quiet=True)
    loaded = run.load()
    images = [digit(number) for number in range(5)]
    inputs = torch.stack([prepare_image(loaded.preparation, image) for image in images])
    with torch.inference_mode():
        average = averaged_logits(loaded.model, inputs, kind)  # type: ignore[arg-type]
        plain = loaded.model(inputs)
    found = torch.tensor([list(row["probabilities"].values()) for row in loaded.predict(images)])
    torch.testing.assert_close(found, average.softmax(1), rtol=1e-5, atol=1e-7)
    assert (found - plain.softmax(1)).abs().max() > 1e-3
    exported = load(loaded.export(tmp_path / "folder"))
    assert exported.tta == kind
    assert exported.predict(images) == loaded.predict(images)
    parts = run.parts()
    checkpoint.load(run.checkpoint(), parts.state)
    scored, split = run.evaluate("test"), parts.dataset.splits["test"]
    by_hand = evaluate(parts.state.model, parts.objective, split, tta=kind)  # type: ignore[arg-type]
    without = evaluate(parts.state.model, parts.objective, split)
    assert scored.metrics["loss"] == pytest.approx(by_hand.metrics["loss"], rel=1e-6)
    assert scored.metrics["loss"] != pytest.approx(without.metrics["loss"], rel=1e-4)
    assert run.summary()["scores"]["test"]["loss"] == pytest.approx(scored.metrics["loss"], rel=1e-6)


@pytest.mark.parametrize("kind", ["gpt", "packed"])
def test_views_of_what_is_no_image_are_refused_before_a_run_begins(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.tta=flip is for images, data are text"):
        tiny(kind, tmp_path, "evaluation.tta=flip")
    with pytest.raises(UserError, match=r"evaluation\.tta=flip_shift is for images, data are table"):
        resolve("linear-diabetes", ["evaluation.tta=flip_shift"])


def test_a_model_exported_without_views_has_none(classifier: Run, tmp_path: Path) -> None:
    loaded = classifier.load()
    assert loaded.tta == "none"
    exported = load(loaded.export(tmp_path / "folder"))
    assert exported.tta == "none"
    assert exported.predict(digit(3)) == loaded.predict(digit(3))


def test_a_broken_input_leaves_the_others_their_answers(
    classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = classifier.load()
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [digit(number) for number in range(7)]
    alone = [loaded.predict(image)[0] for image in images]
    mixed = [*images[:3], tmp_path / "broken.png", *images[3:], tmp_path / "absent.png"]
    for numbers in (loaded_module.NUMBERS, 2 * 64, 1):  # at once, two by two, and one by one
        monkeypatch.setattr(loaded_module, "NUMBERS", numbers)
        found = list(loaded.predictions(mixed))
        assert [place for place, row in enumerate(found) if isinstance(row, UserError)] == [3, 8]
        answers = [row for row in found if not isinstance(row, UserError)]
        assert [row["label"] for row in answers] == [row["label"] for row in alone]
        for row, expected in zip(answers, alone, strict=True):
            assert row["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-5)
    with pytest.raises(UserError, match=r"broken\.png"):
        loaded.predict(mixed)
    assert loaded.predict([]) == []


def test_no_batch_is_larger_than_its_bound(classifier: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, seen = classifier.load(), []
    loaded.model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(loaded_module, "NUMBERS", 3 * 64 + 5)
    loaded.predict([digit(number) for number in range(8)])
    assert seen == [3, 3, 2]


def convolutional(folder: Path) -> Path:
    """An exported ResNet with running statistics of its own."""
    torch.manual_seed(0)
    model = ResNet(ResNetConfig(inputs=(1, 16, 16), outputs=3, depths=(1, 1), widths=(16, 32), stem="small"))
    model(2 * torch.randn(32, 1, 16, 16))
    torch.nn.init.normal_(model.head.weight)
    prepared = {"kind": "images", "shape": [1, 16, 16], "fit": "stretch", "mean": [0.3], "std": [0.4]}
    return export(folder / "resnet", model.eval(), extra={"preparation": prepared, "loss": "cross_entropy"})


def test_a_model_held_in_bf16_predicts_nearly_the_same(classifier: Run, tmp_path: Path) -> None:
    for where in (classifier.folder, convolutional(tmp_path)):
        whole, half = (load(where, precision=precision) for precision in ("fp32", "bf16"))  # type: ignore[arg-type]
        assert next(half.model.parameters()).dtype == torch.bfloat16
        for one, other in zip(whole.predict([digit(3)]), half.predict([digit(3)]), strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=0.03)


def test_images_are_predicted_by_a_twin_that_follows_the_weights(tmp_path: Path) -> None:
    loaded = load(convolutional(tmp_path))
    inputs = torch.stack([prepare_image(loaded.preparation, digit(number)) for number in range(4)])

    def same() -> list[float]:
        with torch.inference_mode():
            expected = loaded.model(inputs).double().softmax(1)
        answers = loaded.predict([digit(number) for number in range(4)])
        found = torch.tensor([list(row["probabilities"].values()) for row in answers]).double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        return found.flatten().tolist()

    before = same()
    with torch.inference_mode():
        assert load(convolutional(tmp_path / "other")).predict(digit(0)) == loaded.predict(digit(0))
    assert loaded._prepared() is not loaded.model
    assert loaded._prepared() is loaded._prepared()
    statistics = next(value for name, value in loaded.model.named_buffers() if name.endswith("running_var"))
    statistics.mul_(9)
    after = same()
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) > 1e-3
