"""`descent predict`, `generate` and `explain` of runs over sound, series, music and pairs of texts."""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import mido
import numpy as np
import pytest
from PIL import Image
from standins import STAND_INS

import descent as package
from descent.data.midi import read_midi
from descent.data.music import read_voices
from descent.explain.alignment import alignment
from descent.explain.recurrent import trace
from descent.explain.sequences import steps_of_text

SHORT = ("budget.steps=3", "budget.epochs=0", "evaluation.every=0", "precision=fp32")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Trains a recipe on the small data of its kind; gives the folder of both."""

    def train(recipe, kind, *changes):
        from descent.cli import main

        folder = tmp_path_factory.mktemp(recipe)
        data = pairs(folder) if kind == "pairs" else STAND_INS[kind](folder)
        arguments = [*data, *SHORT, *changes, "--quiet", "--out", str(folder / "run")]
        assert main(["train", recipe, *arguments]) == 0
        return folder

    return train


@pytest.fixture(scope="module")
def sound(own):
    return own("lstm-fsdd", "sound")


@pytest.fixture(scope="module")
def series(own):
    return own("lstm-etth1", "series", "model.dim=8")


@pytest.fixture(scope="module")
def voices(own):
    return own("lstm-chorales-voices", "music", "data.grid=16th")


@pytest.fixture(scope="module")
def dates(own):
    return own("lstm-dates-bahdanau", "pairs")


def pairs(folder):
    """Days of ten years, written in one way and in another."""
    days = [
        (year, month, 1 + (year + 5 * month) % 28) for year in range(2001, 2011) for month in range(1, 13)
    ]
    lines = [f"{y} {'JFMAMJJASOND'[m - 1]}ay {d}\t{y}-{m:02d}-{d:02d}\n" for y, m, d in days]
    (folder / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
    return [f"data.path={folder / 'pairs.tsv'}", "model.dim=8", "budget.batch_size=4"]


def begun(path):
    """The notes of each voice in the first 32 steps of a MIDI file."""
    return np.stack([roll[:32].argmax(1) + 21 for roll in read_midi(path, 4)], axis=1)


def is_png(path):
    return Image.open(path).format == "PNG"


def test_every_recording_of_a_folder_is_predicted_by_name(descent, sound, tmp_path):
    files = [sound / "sounds" / "low" / f"{number}.wav" for number in (1, 3)]
    found = descent("predict", sound / "run", sound / "sounds", "--json").json
    assert len(found) == 24
    loaded = package.load(sound / "run")
    for file in files:
        (row,) = (row for row in found if row["input"] == str(file))
        expected = loaded.predict(file)[0]
        assert (row["label"], set(row["probabilities"])) == (expected["label"], {"low", "high"})
        assert row["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-5)
    lines = descent("predict", sound / "run", *files).out.splitlines()
    assert [line.split()[0] for line in lines] == ["input", *map(str, files)]
    with wave.open(str(tmp_path / "no-samples.wav"), "wb") as empty:
        empty.setparams((1, 2, 8000, 0, "NONE", ""))
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    result = descent("predict", sound / "run", "broken.wav", "no-samples.wav", files[0], "--json", code=1)
    assert [row["input"] for row in result.json] == [str(files[0])]
    assert result.err.count("left out") == 2
    error = descent("predict", sound / "run", "brokn.wav", code=2).err
    assert "brokn.wav is not a file" in error
    assert "recordings or folders of them" in error
    assert "did you mean broken.wav?" in error
    assert "image" not in error


def test_a_series_goes_on_as_the_run_says(descent, series, tmp_path):
    path = series / "series.csv"
    (found,) = descent("predict", series / "run", path, "--json").json
    (expected,) = package.load(series / "run").predict(path)
    assert [row["time"] for row in found["forecast"]] == [row["time"] for row in expected["forecast"]]
    assert len(found["forecast"]) == 12
    for row, other in zip(found["forecast"], expected["forecast"], strict=True):
        assert row["load"] == pytest.approx(other["load"], rel=1e-5)
    lines = descent("predict", series / "run", path).out.splitlines()
    assert len(lines) == 13
    assert lines[0].split() == ["time", "load", "temperature"]
    assert float(lines[1].split()[-2]) == pytest.approx(found["forecast"][0]["load"], rel=1e-5)
    with path.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with (tmp_path / "short.csv").open("w", encoding="utf-8") as file:
        csv.writer(file).writerows(rows[:48])
    assert "48" in descent("predict", series / "run", "short.csv", code=2).err
    assert "file of one series" in descent("predict", series / "run", tmp_path, code=2).err


def test_a_series_that_is_not_there_is_asked_for_and_what_writes_no_text_says_what_it_does(descent, series):
    error = descent("predict", series / "run", series / "serie.csv", code=2).err
    assert f"did you mean {series / 'series.csv'}?" in error
    assert "the file of a series" in error
    error = descent("generate", series / "run", code=2).err
    assert "use predict with the file of a series" in error
    facts = descent("evaluate", series / "run", "--split", "test", "--json").json
    assert facts["examples"] == len(package.Run(series / "run").parts().dataset.splits["test"])


def test_a_method_that_does_not_fit_is_answered_by_those_that_do(descent, sound, series, dates):
    error = descent("explain", sound / "run", "--method", "gate", code=2).err
    assert "did you mean 'gates'?" in error
    assert "gates, gradient-distance, hidden, saliency, units" in error
    error = descent("explain", sound / "run", "train:0", "--method", "gradcam", code=2).err
    assert "one of gates, hidden, units, saliency, gradient-distance" in error
    for run in (sound, series, dates):
        facts = descent("explain", run / "run", "--json").json
        assert (facts["method"], facts["out"]) == ("saliency", "explain-saliency.png")
    assert "alignment" in descent("explain", dates / "run", "--method", "alignmen", code=2).err
    text = " ".join(descent("explain", "--help").out.replace("│", " ").split())
    assert "Of images: check" in text
    assert "For gates, hidden and units of sequences" in text


def test_samples_of_own_pairs_are_of_their_own_validation_part(dates):
    split = package.Run(dates / "run").parts().dataset.splits["validation"]
    batch = split.gather(np.arange(1))
    loaded = package.load(dates / "run")
    source = batch["source"][0, : int(batch["source_lengths"][0]) - 1].tolist()
    (file,) = (dates / "run" / "samples").glob("*.txt")
    assert file.read_text(encoding="utf-8").split("\n")[0] == loaded.tokenizer.decode(source)
    assert "ay " in loaded.tokenizer.decode(source)


def test_characters_that_a_prompt_holds_and_the_model_never_saw_are_named(descent, dates):
    result = descent("generate", dates / "run", "--prompt", "2024 ☃ May ß☃", "--max-new-tokens", 4)
    (line,) = (line for line in result.err.splitlines() if "unknown" in line)
    assert line.endswith("'☃', 'ß'")
    assert "unknown" not in descent("generate", dates / "run", "--prompt", "2001 May 3").err


def test_music_is_written_as_midi_and_as_a_picture(descent, voices, tmp_path):
    facts = descent("generate", voices / "run", "--bars", 1, "--seed", 3, "--out", "a.mid", "--json").json
    assert (facts["midi"], facts["picture"], facts["prompt"]) == ("a.mid", "a.png", 0)
    assert 0 < facts["steps"] <= 16
    assert is_png("a.png")
    again = descent("generate", voices / "run", "--bars", 1, "--seed", 3, "--out", "b.mid").out
    assert again.split() == ["b.mid", "b.png"]
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()
    assert len(mido.MidiFile("a.mid").tracks) == 4
    for option in (("--beams", 2), ("--stop", "a")):
        assert "is for models of text" in descent("generate", voices / "run", *option, code=2).err


def test_music_goes_on_from_a_file_or_from_a_piece_of_the_data(descent, voices):
    run, given = voices / "run", voices / "music" / "0.mid"
    facts = descent("generate", run, "--bars", 1, "--prompt", given, "--out", "a.mid", "--json").json
    assert facts["prompt"] == 32
    np.testing.assert_array_equal(begun(Path("a.mid")), read_voices(given, "16th", 4))
    pieces = package.Run(run).parts().dataset.splits["train"].pieces
    facts = descent("generate", run, "--bars", 1, "--prompt", "train:1", "--out", "b.mid", "--json").json
    assert facts["prompt"] == 32
    np.testing.assert_array_equal(begun(Path("b.mid")), pieces[1])
    error = descent("generate", run, "--prompt", f"train:{len(pieces)}", "--out", "c.mid", code=2).err
    assert f"0 to {len(pieces) - 1}" in error
    assert "absent.mid" in descent("generate", run, "--prompt", "absent.mid", code=2).err


def test_the_gates_of_a_run_over_sound_and_of_one_over_a_series(descent, sound, series):
    """An LSTM's three gates at every step of an example, and of a file."""
    for run, file in ((sound, sound / "sounds" / "low" / "1.wav"), (series, series / "series.csv")):
        for word in ("train:2", file):
            facts = descent("explain", run / "run", word, "--method", "gates", "--json").json
            assert facts["out"] == "explain-gates.png"
            assert is_png("explain-gates.png")
            for layer in facts["layers"]:
                assert set(layer["gates"]) == {"input", "forget", "output"}
                for gate in layer["gates"].values():
                    assert all(0 < value < 1 for value in gate["mean"])
                    assert gate["shut"] + gate["open"] <= 1
    words = ("--method", "gates", "--target", "low")
    assert "takes no --target" in descent("explain", sound / "run", *words, code=2).err


def test_the_gates_are_those_of_the_trace(descent, dates):
    words = ("--method", "gates", "--text", "1987 May 3", "--layer", "encoder")
    facts = descent("explain", dates / "run", *words, "--json").json
    loaded = package.load(dates / "run")
    steps = steps_of_text(loaded, "1987 May 3")
    found = trace(loaded.model, steps.batch, layer="encoder", pieces=steps.pieces)
    assert [layer["layer"] for layer in facts["layers"]] == list(found.layers)
    for index, layer in enumerate(facts["layers"]):
        for name, gate in layer["gates"].items():
            expected = found.values[name][index].mean(1)
            np.testing.assert_allclose(gate["mean"], expected, rtol=1e-4, atol=1e-6)


def test_alignment_is_the_attention_of_what_is_written(descent, dates):
    run, text = dates / "run", "2024 May 3"
    facts = descent("explain", run, text, "--method", "alignment", "--json").json
    assert is_png(facts["out"])
    loaded = package.load(run)
    expected = alignment(loaded.model, loaded.tokenizer, text, max_new_tokens=79)
    assert facts["input"] == text
    assert facts["text"] == expected.text
    assert facts["source"] == ["2", "0", "2", "4", "␣", "M", "a", "y", "␣", "3", "end"]
    assert facts["target"] == list(expected.target)
    np.testing.assert_allclose(facts["weights"], expected.weights, rtol=1e-4, atol=1e-6)
    assert descent("explain", run, "--text", text, "--method", "alignment").out.split() == [facts["out"]]
    example = descent("explain", run, "train:5", "--method", "alignment", "--json").json
    batch = package.Run(run).parts().dataset.splits["train"].gather(np.array([5]))
    length = int(batch["source_lengths"][0])
    assert len(example["source"]) == length
    assert example["input"] == loaded.tokenizer.decode(batch["source"][0, : length - 1].tolist())


def test_alignment_is_refused_where_there_is_none(descent, dates, digits_run, gpt_run, own):
    for other in (digits_run, gpt_run):
        assert "no alignment to show" in descent("explain", other, "a", "--method", "alignment", code=2).err
    run = dates / "run"
    words = ("--method", "alignment", "--layer", "encoder")
    assert "takes no --layer" in descent("explain", run, "a", *words, code=2).err
    assert "one sequence" in descent("explain", run, "a", "b", "--method", "alignment", code=2).err
    assert "no such example" in descent("explain", run, "test:99999", "--method", "alignment", code=2).err
    without = own("lstm-dates-none", "pairs")
    assert "has no attention" in descent("explain", without / "run", "a", "--method", "alignment", code=2).err
