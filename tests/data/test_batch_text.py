"""A batch of texts as it is printed: what every kind of data gives the model, and what is to be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from standins import STAND_INS

from descent.cli import main
from descent.errors import UserError
from descent.recipes import get, resolve
from descent.runs.assemble import load_data
from descent.runs.batch_text import _VIEWS, batch_text, spelled
from descent.runs.recipe import TOKENIZED
from descent.text import train

RECIPES = {
    "gpt": "text",
    "gpt-names": "text",
    "lstm": "text",
    "bert": "masked",
    "t5": "spans",
    "transformer-multi30k": "pairs",
    "lstm-dates-luong": "pairs",
    "t5-tasks-en": "tasks",
    "bert-sst2": "sentences",
    "bert-wnut17": "entities",
    "bert-cmrc": "questions",
    "bert-cranfield": "ranking",
    "bert-similar": "similar",
}
ENDS = ("[SEP]", "</s>", "<|endoftext|>")


def shown(name: str, folder: Path) -> list[list[tuple[str, str]]]:
    """Of each text that is printed its lines: (name, value)."""
    given = [*STAND_INS[RECIPES[name]](folder), "budget.batch_size=6"]
    texts = batch_text(resolve(name, given), step=2).split("\n\n")
    found = []
    for text in texts[1:]:
        lines = text.splitlines()[1:]
        width = max(len(line.split()[0]) for line in lines)
        found.append([(line[2 : 2 + width].strip(), line[4 + width :]) for line in lines])
    return found


def test_every_kind_of_text_has_a_view() -> None:
    assert set(_VIEWS) == set(TOKENIZED) == set(RECIPES.values())
    assert all(get(name).data.type == kind for name, kind in RECIPES.items())


@pytest.mark.parametrize("name", ["gpt", "gpt-names", "lstm"])
def test_a_language_model_writes_what_it_reads_one_token_on(name: str, tmp_path: Path) -> None:
    for reads, writes in shown(name, tmp_path):
        assert (reads[0], writes[0]) == ("reads", "writes")
        read, written = (line.replace("<|endoftext|>", "END").split("|") for _, line in (reads, writes))
        assert read[1:] == written[:-1]


def test_hidden_tokens_say_what_they_were(tmp_path: Path) -> None:
    found = shown("bert", tmp_path)
    wanted = [part.split("→")[1].strip() for ((_, line),) in found for part in line.split("|") if "→" in part]
    words = (tmp_path / "text.txt").read_text(encoding="utf-8")
    assert len(wanted) > 10
    assert all(word in words for word in wanted)
    assert sum("[MASK]→" in line for ((_, line),) in found) > len(found) / 2
    assert all(line.startswith("[CLS]") and line.endswith("[SEP]") for ((_, line),) in found)


def test_pieces_that_follow_or_not(tmp_path: Path) -> None:
    changes = ["data.document=paragraph", "data.next_sentence=true", "model.head=pretraining"]
    given = [*STAND_INS["masked"](tmp_path), *changes, "budget.batch_size=20"]
    lines = (tmp_path / "text.txt").read_text(encoding="utf-8").split("\n")
    text = "\n\n".join("\n".join(lines[at : at + 6]) for at in range(0, len(lines), 6))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    found = batch_text(resolve("bert", given))
    assert found.count("second  follows the first") + found.count("second  is from another document") == 20
    assert 3 < found.count("follows the first") < 17


@pytest.mark.parametrize("name", ["t5", "transformer-multi30k", "lstm-dates-luong", "t5-tasks-en"])
def test_a_source_and_what_it_becomes(name: str, tmp_path: Path) -> None:
    found = shown(name, tmp_path)
    assert len(found) == 6
    for text in found:
        source, reads, writes = (value for _, value in text)
        assert [part for part, _ in text] == ["source", "reads", "writes"]
        assert source.endswith(ENDS)
        assert writes.endswith(ENDS)
        assert reads.startswith(("<pad>", "<|endoftext|>"))
        assert writes.startswith(re.sub(r"^(<pad>|<\|endoftext\|>)\|", "", reads))


def test_the_other_order_of_a_pair(tmp_path: Path) -> None:
    for (_, source), _, (_, target) in shown("transformer-multi30k", tmp_path):
        both = [line.replace("|", "").removesuffix("<endoftext>").split() for line in (source, target)]
        assert both[0] == both[1][::-1]


def test_classes_and_tags(tmp_path: Path) -> None:
    rows = dict(
        line.rsplit("\t", 1) for line in (_written(tmp_path, "sentences", "sentences.tsv")).splitlines()
    )
    for (_, reads), (name, label) in shown("bert-sst2", tmp_path):
        first, second, _ = reads.removeprefix("[CLS]|").replace("|", "").split("[SEP]")
        assert (name, label) == ("class", rows[f"{first}\t{second}"])
    tagged = [
        pair
        for ((_, reads),) in shown("bert-wnut17", tmp_path)
        for pair in re.findall(r"(\w+)→([\w-]+)", reads)
    ]
    assert len(tagged) == 48
    assert {word for word, tag in tagged if tag == "B-nature"} <= {*"山水月", "river", "stone", "wind"}
    assert not {word for word, tag in tagged if tag == "O"} & {*"山水月", "river", "stone", "wind"}


def _written(folder: Path, kind: str, file: str) -> str:
    STAND_INS[kind](folder)
    return (folder / file).read_text(encoding="utf-8")


def test_answers_are_the_words_that_were_asked_for(tmp_path: Path) -> None:
    found = shown("bert-cmrc", tmp_path)
    for (_, reads), (name, answer) in found:
        asked = reads.replace("|", "").removeprefix("[CLS]which word is ").split("?")[0]
        assert (name, answer.replace("|", "").strip()) == ("answer", asked)
        place = reads.index("→answer")
        first = answer.split("|")[0]
        assert reads[:place].endswith(f"|{first}")
        assert reads.replace("→answer", "")[place - len(first) :].startswith(answer)
    assert len(found) == 6


def test_groups_and_pairs(tmp_path: Path) -> None:
    groups: dict[str, list[str]] = {}
    for _, (name, value) in shown("bert-cranfield", tmp_path):
        groups.setdefault(value.split(":")[0], []).append(value.split(": ")[1])
        assert name == "group"
    assert len(groups) == 6
    assert all(sorted(grades)[-1] == "relevant" and len(set(grades)) == 2 for grades in groups.values())
    pairs = [value.split(": its ") for _, (_, value) in shown("bert-similar", tmp_path)]
    assert len(pairs) == 12
    assert {which for _, which in pairs} == {"first text", "second text"}
    assert len({number for number, _ in pairs}) == 6


def test_tokens_that_are_parts_of_a_character() -> None:
    tokenizer = train("byte", ["山 a"])
    ids = tokenizer.encode("山\na")
    assert spelled(tokenizer, ids) == "山|\\n|a"
    assert spelled(tokenizer, ids[:2] + ids[3:]) == "<e5 b1>|\\n|a"
    assert spelled(tokenizer, ids[2:]) == "<b1>|\\n|a"
    assert spelled(tokenizer, ids[:2]) == "<e5 b1>"
    assert spelled(tokenizer, [*ids, tokenizer.end], {0: "X", 1: "Y", 4: "Z"}) == (
        "<e5>→X|<b1>→Y|<b1>|\\n|a→Z|<|endoftext|>"
    )


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["data", "batch", "gpt-names", *STAND_INS["text"](tmp_path), "budget.batch_size=4"]
    assert main([*given, "--step", "3", "--rows", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("gpt-names on text.txt, step 3: a batch of 4, inputs of 4 x 32 tokens\n\nrow 1")
    assert ("\nrow 2" in printed, "\nrow 3" in printed) == (True, False)
    assert main([*given, "--step", "3", "--rows", "2", "--out", "new/batch.txt"]) == 0
    assert capsys.readouterr().out == "new/batch.txt\n"
    assert Path("new/batch.txt").read_text(encoding="utf-8") == printed
    assert main([*given, "--out", "batch.png"]) == 2
    assert "batch.txt" in capsys.readouterr().err
    for name, options in (("gpt-names", {"step": -1}), ("gpt-names", {"rows": 0}), ("mlp-digits", {})):
        with pytest.raises(UserError, match=r"no such batch|trains on no text"):
            batch_text(resolve(name), **options)


def test_the_tokens_are_those_of_the_weights(tmp_path: Path) -> None:
    from descent.runs.train import train as train_run

    small = ["budget.steps=1", "model.depth=1", "model.dim=16", "model.heads=2"]
    run = train_run(
        resolve("bert", [*STAND_INS["masked"](tmp_path), *small]), out=tmp_path / "run", quiet=True
    )
    (tmp_path / "own.tsv").write_text(
        "".join(f"a good river {n}\ty\na bad stone {n}\tn\n" for n in range(30)), encoding="utf-8"
    )
    recipe = resolve(
        "bert-sst2", [f"data.path={tmp_path / 'own.tsv'}", f"transfer.weights={run.folder}", "data.length=32"]
    )
    tokenizer = run.tokenizer
    assert tokenizer is not None
    line = spelled(tokenizer, tokenizer.encode("a good river"))
    assert f"[CLS]|{line}|" in batch_text(recipe)
    own = load_data(recipe)[1]
    assert own is not None
    assert spelled(own, own.encode("a good river")) != line
