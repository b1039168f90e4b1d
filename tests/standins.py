"""Small data that every machine makes alike, one of each kind, in place of a recipe's own."""

from __future__ import annotations

import json
import math
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

WORDS = [
    "when",
    "the",
    "small",
    "river",
    "of",
    "stone",
    "turns,",
    "a",
    "山",
    "and",
    "水",
    "remember",
    "every",
    "name;",
    "no",
    "wind",
    "月",
    "is",
    "lost.",
]


def draws(count: int, below: int) -> list[int]:
    """Numbers of a linear congruential generator: the same everywhere."""
    state, found = 12345, []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        found.append((state >> 16) % below)
    return found


def made_text(lines: int = 400) -> str:
    """Lines of eight words."""
    words = [WORDS[number] for number in draws(8 * lines, len(WORDS))]
    return "\n".join(" ".join(words[start : start + 8]) for start in range(0, len(words), 8)) + "\n"


def text(folder: Path) -> list[str]:
    path = folder / "text.txt"
    path.write_text(made_text(), encoding="utf-8")
    return [f"data.path={path}", "data.document=line", "data.length=32", "tokenizer.vocab_size=0"]


def series(folder: Path) -> list[str]:
    """Six hundred hours of a load and a temperature."""
    lines = ["time,load,temperature"]
    noise = draws(1200, 100)
    for hour in range(600):
        day, clock = divmod(hour, 24)
        load = 10 + 3 * math.sin(2 * math.pi * clock / 24) + noise[hour] / 100
        warmth = 20 + 5 * math.cos(2 * math.pi * clock / 24) + noise[600 + hour] / 50
        month, date = divmod(day, 28)
        lines.append(f"2025-{month + 1:02d}-{date + 1:02d} {clock:02d}:00,{load:.3f},{warmth:.3f}")
    path = folder / "series.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"data.path={path}", "data.history=48", "data.horizon=12", "budget.batch_size=8"]


def sound(folder: Path) -> list[str]:
    """Two kinds of tones, twelve recordings of each, of unequal length."""
    lengths = draws(24, 1000)
    for number, more in enumerate(lengths):
        kind, pitch = ("low", 300) if number % 2 else ("high", 900)
        times = np.arange(2000 + more) / 8000
        samples = (8000 * np.sin(2 * np.pi * (pitch + 10 * number) * times)).astype("<i2")
        path = folder / "sounds" / kind / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(samples.tobytes())
    return [f"data.path={folder / 'sounds'}", "data.rate=8000", "budget.batch_size=4", "model.dim=16"]


def music(folder: Path) -> list[str]:
    """Eight pieces of four voices, a few bars each."""
    from descent.data.midi import write_midi

    steps = draws(8 * 4 * 32, 12)
    for piece in range(8):
        tracks = {}
        for voice in range(4):
            first = 32 * (4 * piece + voice)
            roll = np.zeros((32, 88), dtype=bool)
            roll[np.arange(32), 15 + 10 * voice + np.array(steps[first : first + 32])] = True
            tracks[f"voice {voice + 1}"] = roll
        write_midi(folder / "music" / f"{piece}.mid", tracks, 4, 90.0)
    return [f"data.path={folder / 'music'}", "budget.batch_size=2", "model.dim=32"]


SMALL = ["model.depth=2", "model.dim=32", "model.heads=2", "tokenizer.vocab_size=600"]


def questions(folder: Path) -> list[str]:
    """Forty texts of three lines, each with a question whose answer is one of its words."""
    lines = made_text(120).splitlines()
    articles = []
    for number, place in enumerate(draws(40, 20)):
        context = "\n".join(lines[3 * number : 3 * number + 3])
        answer = context.split()[place]
        answers = [{"text": answer, "answer_start": context.index(answer)}]
        qas = [{"question": f"which word is {answer}?", "answers": answers}]
        articles.append({"title": str(number), "paragraphs": [{"context": context, "qas": qas}]})
    path = folder / "questions.json"
    path.write_text(json.dumps({"data": articles}), encoding="utf-8")
    windows = ["data.length=96", "data.stride=24", "data.question_length=24"]
    return [f"data.path={path}", *windows, *SMALL, "budget.batch_size=4"]


def ranking(folder: Path) -> list[str]:
    """Sixty documents of a line, and twenty queries of the first words of one."""
    lines = made_text(60).splitlines()
    (folder / "corpus.tsv").write_text("".join(f"{n}\t{line}\n" for n, line in enumerate(lines)), "utf-8")
    asked = [" ".join(line.split()[:3]) for line in lines[::3]]
    (folder / "queries.tsv").write_text("".join(f"{n}\t{text}\n" for n, text in enumerate(asked)), "utf-8")
    (folder / "qrels.tsv").write_text("".join(f"{n}\t{3 * n}\t1\n" for n in range(20)), "utf-8")
    limits = ["data.length=64", "data.query_length=24", "data.depth=8", "data.negatives=3"]
    return [f"data.path={folder}", *limits, *SMALL, "budget.batch_size=4"]


def sentences(folder: Path) -> list[str]:
    """Two hundred pairs of lines, each of a class."""
    lines = made_text(401).splitlines()
    pairs = zip(lines[:200], lines[200:400], strict=True)
    rows = [f"{one}\t{other}\t{'yn'[number % 2]}" for number, (one, other) in enumerate(pairs)]
    path = folder / "sentences.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return [f"data.path={path}", "data.length=64", "tokenizer.vocab_size=600", "budget.batch_size=8"]


def entities(folder: Path) -> list[str]:
    """Two hundred lines in which every word of nature is a name."""
    names = ("river", "stone", "wind", "山", "水", "月")
    lines = [
        "".join(f"{word}\t{'B-nature' if word in names else 'O'}\n" for word in line.split())
        for line in made_text(200).splitlines()
    ]
    path = folder / "entities.conll"
    path.write_text("\n".join(lines), encoding="utf-8")
    return [f"data.path={path}", "data.length=64", "tokenizer.vocab_size=600", "budget.batch_size=8"]


def pairs(folder: Path) -> list[str]:
    """Two hundred lines, and each with its words in the other order."""
    lines = made_text(200).splitlines()
    path = folder / "pairs.tsv"
    path.write_text("".join(f"{line}\t{' '.join(line.split()[::-1])}\n" for line in lines), encoding="utf-8")
    return [f"data.path={path}", "budget.batch_size=8"]


def tasks(folder: Path) -> list[str]:
    """Three of the above at once."""
    forms = {"sentences": sentences, "entities": entities, "questions": questions}
    places = {form: make(folder)[0].removeprefix("data.path=") for form, make in forms.items()}
    listed = ", ".join(f'{{path = "{path}", form = "{form}"}}' for form, path in places.items())
    limits = ["data.length=96", "data.target_length=48", "data.scored=8"]
    return [f"data.tasks=[{listed}]", *limits, *SMALL, "budget.batch_size=8"]


STAND_INS: dict[str, Callable[[Path], list[str]]] = {
    "images": lambda folder: ["data.source=digits"],
    "table": lambda folder: ["data.source=diabetes", "data.drop_first=false"],
    "text": text,
    "series": series,
    "sound": sound,
    "music": music,
    "pairs": pairs,
    "similar": pairs,
    "questions": questions,
    "ranking": ranking,
    "masked": text,
    "spans": text,
    "sentences": sentences,
    "entities": entities,
    "tasks": tasks,
    "generated": lambda folder: ["budget.batch_size=8"],
}
