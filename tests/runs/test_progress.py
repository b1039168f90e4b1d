"""What a person sees of a run: a live line on a terminal, a line now and then elsewhere, nothing if quiet."""

from __future__ import annotations

import io
import re

import pytest

from descent.runs import progress as module
from descent.runs.progress import (
    Progress,
    format_bytes,
    format_count,
    format_metric,
    format_seconds,
    printable,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Clock(monkeypatch)


def report(step, loss=2.0, **more):
    return {"step": step, "loss": loss, "learning_rate": 3e-4, "rate": 12345.0, "memory": 1.3e9, **more}


def run(stream, clock, *, steps=100, seconds=1.0, **options):
    with Progress(steps=steps, unit="tokens", stream=stream, **options) as progress:
        progress.begin(["gpt on python-docs"])
        for step in range(1, steps + 1):
            clock.now += seconds
            progress.step(report(step, loss=4.0 / step))
        progress.evaluation(steps, "validation", {"loss": 1.25, "accuracy": 0.9731, "examples": 10})
        progress.end(["runs/gpt/x"])
    return stream.getvalue()


def test_plain_lines_come_every_five_seconds(clock):
    text = run(io.StringIO(), clock)
    lines = [line for line in text.splitlines() if line.startswith("step ") and "tokens/s" in line]
    assert [int(line.split("/")[0].split()[1]) for line in lines] == list(range(1, 101, 5))
    assert lines[1] == "step   6/100  loss 0.6667  12.3k tokens/s  lr 0.0003  1.3 GB  1m 34s left"
    assert "\x1b" not in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_a_terminal_gets_one_line_at_most_ten_times_a_second(clock):
    text = run(Terminal(), clock, seconds=0.01)
    drawn = re.findall(r"(\d+)%", text)
    assert 5 <= len(drawn) <= 40
    assert "12.3k tokens/s" in text
    assert text.index("validation") < text.rindex("runs/gpt/x")
    assert "\x1b[?25h" in text, "the cursor is shown again"


def test_the_terminal_is_left_in_order_after_an_error(clock):
    stream = Terminal()

    def broken():
        with Progress(steps=3, unit="rows", stream=stream) as progress:
            progress.begin([])
            progress.step(report(1))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_quiet_shows_nothing(clock):
    assert run(io.StringIO(), clock, quiet=True) == ""
    assert run(Terminal(), clock, quiet=True) == ""


def test_evaluations_samples_and_the_end_stand_on_lines_of_their_own(clock):
    stream = io.StringIO()
    with Progress(steps=20, unit="images", stream=stream) as progress:
        for step in range(1, 21):
            progress.step(report(step, loss=21.0 - step))
            if step % 10 == 0:
                progress.evaluation(
                    step, "validation", {"loss": 1 / step, "accuracy": step / 40, "top5": None}
                )
        progress.sample(20, "床前明月光\x1b[31m\n[bold]疑是[/bold] \u202eevil")
        progress.note("a [note]")
        progress.end(["the end"])
    lines = stream.getvalue().splitlines()
    assert "step 10/20  validation  loss 0.1000  accuracy 25.00%" in lines
    assert lines[lines.index("step 20/20  sample") + 1] == "    床前明月光\N{REPLACEMENT CHARACTER}[31m"
    assert (
        lines[lines.index("step 20/20  sample") + 2] == "    [bold]疑是[/bold] \N{REPLACEMENT CHARACTER}evil"
    )
    assert "a [note]" in lines
    assert lines[-1] == "the end"
    assert any(line.startswith("loss 20 █") and line.endswith("▁ 1") for line in lines)
    assert lines[-3].split() == ["10", "validation", "0.1000", "25.00%"]


def test_the_table_keeps_the_first_and_the_last_of_many_evaluations(clock):
    stream = io.StringIO()
    with Progress(steps=100, unit="rows", stream=stream) as progress:
        for step in range(1, 101):
            progress.evaluation(step, "validation", {"loss": 1.0})
        before = stream.getvalue()
        progress.end()
    rows = stream.getvalue().removeprefix(before).splitlines()[1:]
    assert len(rows) == 8
    assert [rows[0].split()[0], rows[-1].split()[0]] == ["1", "100"]


def test_every_phase_is_shown_when_there_are_several(clock):
    stream = io.StringIO()
    with Progress(steps=2, unit="images", stream=stream) as progress:
        progress.step(report(1, losses={"critic": 0.5, "generator": 1.5}))
    assert "critic 0.5000  generator 1.5000" in stream.getvalue()


def test_missing_values_are_left_out(clock):
    stream = io.StringIO()
    with Progress(steps=2, unit="images", stream=stream) as progress:
        progress.step({"step": 1, "loss": None, "rate": None, "memory": None})
        progress.end()
    assert stream.getvalue() == "step 1/2  loss -\n"


def test_a_long_run_keeps_a_short_history(clock):
    with Progress(steps=10**6, unit="rows", quiet=True) as progress:
        for step in range(20_000):
            progress.step(report(step, loss=float(step)))
    assert len(progress._history) <= 4096
    assert progress._history[0] == 0.0
    assert progress._history[-1] > 19_900


def test_a_terminal_without_utf8_is_written_to(clock):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace", write_through=True)
    with Progress(steps=3, unit="rows", stream=stream) as progress:
        for step in range(1, 4):
            progress.step(report(step, loss=4.0 - step))
        progress.sample(3, "月")
        progress.end()
    assert b"\\u6708" in raw.getvalue()
    assert b"loss 3 -> 1" in raw.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (185, "3m 05s"),
        (3599.7, "1h 00m"),
        (7801, "2h 10m"),
        (-1, "0s"),
    ],
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (12.34, "12.3"),
        (950, "950"),
        (999.9, "1k"),
        (12_345, "12.3k"),
        (999_960, "1M"),
        (1.5e9, "1.5G"),
    ],
)
def test_counts(count, text):
    assert format_count(count) == text


def test_bytes_and_metrics():
    assert [format_bytes(n) for n in (0, 999, 1000, 512_000, 1.24e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "512 kB",
        "1.24 GB",
    ]
    assert format_metric("accuracy", 0.98765) == "98.77%"
    assert format_metric("loss", 1.23456) == "1.2346"
    assert format_metric("loss", 0.0) == "0.0000"
    assert format_metric("loss", 1.5e-6) == "1.5e-06"


def test_printable_keeps_text_and_drops_commands():
    assert printable("a\tb\n中\u200d🙂\u3000") == "a\tb\n中\u200d🙂\u3000"
    assert set(printable("\x00\x1b\x7f\x9b\u202e\r")) == {"\N{REPLACEMENT CHARACTER}"}
