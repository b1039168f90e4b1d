"""The metrics file: what is written is read back, and a torn end never costs more than itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from descent.errors import CorruptArtifact
from descent.runs.metrics import MetricsLog, read_metrics, series, sparkline


def test_lines_are_read_back_as_written(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.append("start", 0, recipe="gpt")
        log.append("step", 1, loss=2.5, losses={"generator": 1.0, "critic": 1.5}, memory=12)
        log.append("sample", 1, text="床前明月光 🌙\n<|end|>")
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"event": "start", "step": 0, "recipe": "gpt"},
        {"event": "step", "step": 1, "loss": 2.5, "losses": {"generator": 1.0, "critic": 1.5}, "memory": 12},
        {"event": "sample", "step": 1, "text": "床前明月光 🌙\n<|end|>"},
    ]
    assert "床前明月光" in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")


def test_every_line_is_on_disk_before_the_log_is_closed(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("step", 1, loss=1.0)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    log.close()


def test_non_finite_numbers_become_null_and_array_scalars_numbers(tmp_path):
    with MetricsLog(tmp_path / "m") as log:
        log.append("step", 1, loss=math.nan, losses={"a": math.inf}, list=[-math.inf, 1.0])
        log.append("step", 2, loss=np.float32(0.5), count=np.int64(3))
    text = (tmp_path / "m").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    first, second = (json.loads(line) for line in text.splitlines())
    assert first == {"event": "step", "step": 1, "loss": None, "losses": {"a": None}, "list": [None, 1.0]}
    assert second == {"event": "step", "step": 2, "loss": 0.5, "count": 3}


def test_a_lone_surrogate_does_not_stop_the_run(tmp_path):
    with MetricsLog(tmp_path / "m") as log:
        log.append("sample", 1, text="a\ud800b")
        log.append("step", 2, loss=1.0)
    assert [line["step"] for line in read_metrics(tmp_path / "m")] == [1, 2]


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_log_cut_at_any_byte_is_read_and_goes_on(tmp_path, cut):
    path = tmp_path / "m"
    with MetricsLog(path) as log:
        log.append("step", 1, loss=1.0)
        log.append("step", 2, loss=0.5, text="明")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    before = read_metrics(path)
    with MetricsLog(path) as log:
        log.append("step", 3, loss=0.25)
    assert read_metrics(path) == [*before, {"event": "step", "step": 3, "loss": 0.25}]
    lines = whole.split(b"\n")
    assert len(before) == (cut <= len(lines[1]) + 2) + (cut == 1), "a line lacking only its newline counts"


def test_zeros_left_by_a_power_failure_are_cut_off(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b'{"event": "step", "step": 1}\n' + b"\0" * 4096)
    assert len(read_metrics(path)) == 1
    with MetricsLog(path) as log:
        log.append("step", 2)
    assert [line["step"] for line in read_metrics(path)] == [1, 2]


@pytest.mark.parametrize(
    "bad", ["{", "[1]", "3", '{"event": "step"}', '{"event": 1, "step": 1}', "[" * 100_000]
)
def test_a_bad_line_before_the_last_is_named(tmp_path, bad):
    path = tmp_path / "m"
    path.write_text(f'{{"event": "step", "step": 1}}\n{bad}\n{{"event": "step", "step": 2}}\n')
    with pytest.raises(CorruptArtifact, match="line 2: not a metrics line"):
        read_metrics(path)


def test_no_file_means_no_lines(tmp_path):
    assert read_metrics(tmp_path / "none") == []


def step(number, loss, **more):
    return {"event": "step", "step": number, "loss": loss, **more}


def test_the_last_line_of_a_step_counts():
    lines = [step(1, 1.0), step(2, 0.9), step(2, 0.8), step(3, 0.7)]
    assert series(lines, "step", "loss") == ([1, 2, 3], [1.0, 0.8, 0.7])
    assert series([*lines, step(2, None)], "step", "loss") == ([1, 3], [1.0, 0.7])


def test_a_resume_forgets_what_lay_beyond_it():
    lines = [step(n, float(n)) for n in range(1, 8)] + [{"event": "resume", "step": 4}, step(5, 50.0)]
    assert series(lines, "step", "loss") == ([1, 2, 3, 4, 5], [1.0, 2.0, 3.0, 4.0, 50.0])


def test_a_series_picks_its_event_key_and_split():
    lines = [
        step(1, 1.0, losses={"critic": 0.1}),
        {"event": "evaluation", "step": 1, "split": "train", "accuracy": 0.9},
        {"event": "evaluation", "step": 1, "split": "validation", "accuracy": 0.8},
        {"event": "evaluation", "step": 2, "split": "validation", "accuracy": None},
        step(2, None, losses={"critic": 0.2}),
    ]
    assert series(lines, "evaluation", "accuracy", "validation") == ([1], [0.8])
    assert series(lines, "step", "losses.critic") == ([1, 2], [0.1, 0.2])
    assert series(lines, "step", "loss") == ([1], [1.0])
    assert series(lines, "step", "absent") == ([], [])


def test_sparkline_shows_the_shape():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([8, 8, 0, 0], 2) == "█▁"
    assert sparkline([1.0, 1.0, 1.0], 10) == "▁▁▁"
    assert sparkline([], 10) == ""
    assert sparkline([math.nan, 1.0, math.inf, 0.0], 10) == "█▁"
    assert len(sparkline(range(1000), 40)) == 40
