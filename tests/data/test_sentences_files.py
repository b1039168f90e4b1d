"""The user's own texts with a class: what is read, what is refused, and how the refusal reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from descent.data.sentences import load_sentences
from descent.data.sentences_config import SentencesData
from descent.data.textrows import read_rows
from descent.errors import UserError

ROWS = [("good fun", "yes"), ("so, bad", "no"), ('he said "fine"', "yes"), ("好看", "yes"), ("dull", "no")]


def read(path: Path | str, **changes: object):
    values = {"path": str(path), "validation": 0.0, "test": 0.0, **changes}
    return load_sentences(SentencesData.read(values), None, [])


def put(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refused(path: Path, **changes: object) -> str:
    with pytest.raises(UserError) as error:
        read(path, **changes)
    return str(error.value)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


FORMS = {
    "named.csv": "review,sentiment\r\n" + "".join(f"{quoted(t)},{c}\r\n" for t, c in ROWS),
    "other.csv": "id,opinion,mark\n" + "".join(f"{n},{quoted(t)},{c}\n" for n, (t, c) in enumerate(ROWS)),
    "half.tsv": "sentence\tgenre\n" + "".join(f"{t}\t{c}\n" for t, c in ROWS),
    "bare.tsv": "\ufeff" + "".join(f"{t}\t{c}\n" for t, c in ROWS),
    "bare.txt": "".join(f"{t}\t{c}\r\n\n" for t, c in ROWS),
    "lines.jsonl": "".join(json.dumps({"label": c, "text": t}) + "\n" for t, c in ROWS),
    "list.json": json.dumps([{"Text": t, "n": None, "Class": c} for t, c in ROWS], indent=1),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_holds_the_same_rows(tmp_path: Path, name: str):
    asked = {"text": "opinion", "label": "mark"} if name == "other.csv" else {}
    found = read(put(tmp_path, name, FORMS[name]), **asked)
    assert [(one.text, one.label) for one in found.splits["train"]] == ROWS
    assert found.labels == ("no", "yes")


def test_columns_found_by_name_are_noted(tmp_path: Path):
    found = read(put(tmp_path, "a.csv", FORMS["named.csv"]))
    assert found.notes == ("text from 'review', class from 'sentiment'",)
    assert found.columns == ("review",)
    asked = read(tmp_path / "a.csv", text="review", label="sentiment")
    assert (asked.splits, asked.notes) == (found.splits, ())


def test_pairs_of_texts(tmp_path: Path):
    rows = "a b\tc\t1\na\td e\t0\n"
    found = read(put(tmp_path, "a.tsv", rows * 2))
    assert found.double
    assert [one[:3] for one in found.splits["train"][:2]] == [
        ("a b", "c", "1"),
        ("a", "d e", "0"),
    ]
    named = read(put(tmp_path, "b.tsv", "id\tpremise\thypothesis\tgold_label\n1\ta b\tc\t1\n2\ta\td e\t0\n"))
    assert [one[:3] for one in named.splits["train"]] == [one[:3] for one in found.splits["train"][:2]]
    alone = read(tmp_path / "b.tsv", text="premise")  # one that was named alone is alone
    assert not alone.double


def test_files_named_for_splits_keep_them(tmp_path: Path):
    for name, rows in (("train", ROWS), ("dev", ROWS[:2]), ("test", ROWS[2:])):
        put(tmp_path, f"{name}.tsv", "".join(f"{t}\t{c}\n" for t, c in rows))
    found = read(tmp_path)
    assert {split: len(rows) for split, rows in found.splits.items()} == {
        "train": 5,
        "validation": 2,
        "test": 3,
    }
    put(tmp_path, "more.tsv", "a\tyes\n")
    assert "more.tsv names no split" in refused(tmp_path)


def test_rows_without_text_or_class_are_left_out_and_counted(tmp_path: Path):
    found = read(put(tmp_path, "a.csv", "text,label\na,1\n,1\nb,\n  ,\nc,0\n"))
    assert [one.text for one in found.splits["train"]] == ["a", "c"]
    assert "a.csv: 2 rows left out, without text or class" in found.notes  # a line of blanks alone is no row


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        ("text,label\n,1\n,0\n", {}, "the column 'text' is empty"),
        ("text,label\na,\nb,\n", {}, "the column 'label' is empty"),
        ("review,stars\na,1\nb,2\n", {"text": "reveiw"}, "did you mean data.text=review?"),
        ("review,stars\na,1\nb,2\n", {"text": "review", "label": "star"}, "did you mean data.label=stars?"),
        ("a,1\nb,1\nc,2\nd,2\n", {"text": "text"}, "has no line of column names"),
        ("id,remark,mark\n1,a,x\n2,b,y\n", {}, "name it with data.text=..."),
        ("id,text,mark\n1,a,x\n2,b,y\n", {}, "name it with data.label=..."),
        ("text,label\na,x\nb,x\n", {}, "every training text is of the class 'x'"),
        ("text,label\na,0.5\nb,1.5\n", {}, "a.csv, line 2: the class in 'label' is a number with a fraction"),
        ("text,label\n" + "".join(f"a,{n}\n" for n in range(60)), {}, "60 different values in 60 rows"),
        ("text,label\na,x\nb,y,z\n", {}, "a.csv, line 3: a row of 3 cells"),
        ('text,label\n"a\nb",x\nc\n', {}, "a.csv, line 4: a row of 1 cell"),
        ('text,label\na,x\n"b,y\n', {}, "unexpected end of data"),
        ("text;label\na;x\n", {}, "not separated by ',' but by ';'"),
        ("text,text\na,x\n", {}, "two columns have the same name"),
        ("text,label\n", {}, "has no rows"),
        ("", {}, "is empty"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, changes: dict[str, str], said: str):
    assert said in refused(put(tmp_path, "a.csv", text), **changes)


def test_other_faults_of_files(tmp_path: Path):
    mixed = b"text,label\n" + "好,1\n".encode() + "好,0\n".encode("gb18030")
    assert "line 3" in refused(put(tmp_path, "mixed.csv", mixed))
    assert "line 2: not JSON" in refused(put(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n{"text": \n'))
    assert "line 2: not an object" in refused(put(tmp_path, "b.jsonl", '{"text": "a", "label": 1}\n[1]\n'))
    half = '{"text": "a", "label": 1}\n{"text": "\\ud800", "label": 2}\n'
    assert "line 2: half of a surrogate pair" in refused(put(tmp_path, "c.jsonl", half))
    assert "4 columns" in refused(
        put(tmp_path, "four.tsv", "a\tb\tc\t1\na\tb\tc\t1\na\tb\tc\t0\na\tb\tc\t0\n")
    )
    assert "of no kind that holds rows" in refused(put(tmp_path, "a.py", "a\tb\n"))
    assert "there is no such file" in refused(tmp_path / "none.csv")


def test_a_class_that_is_not_trained_on_is_named_with_its_line(tmp_path: Path):
    put(tmp_path, "train.tsv", "a\tx\nb\ty\nc\tx\nd\ty\n")
    put(tmp_path, "test.tsv", "e\tx\nf\tz\ng\tz\nh\tx\n")
    said = refused(tmp_path)
    assert "test.tsv, line 2" in said
    assert "'z'" in said
    assert "one of x, y" in said


def test_the_columns_of_all_files_are_the_same(tmp_path: Path):
    put(tmp_path, "train.tsv", "a\tx\nb\ty\nc\tx\nd\ty\n")
    put(tmp_path, "test.tsv", "a\tb\tx\nb\tc\ty\nc\td\tx\nd\te\ty\n")
    assert "in other columns than in the other files" in refused(tmp_path)


def test_whole_numbers_are_classes_in_the_order_of_numbers(tmp_path: Path):
    found = read(
        put(
            tmp_path, "a.jsonl", "".join(json.dumps({"text": "a", "label": n}) + "\n" for n in (10, 9, 9, 10))
        )
    )
    assert found.labels == ("9", "10")


def test_a_file_to_predict_has_no_class_to_be_found_by(tmp_path: Path):
    bare = read_rows(put(tmp_path, "a.csv", "one text\nanother\n"), ("text",), header=False)
    assert (bare.header, bare.cells) == (None, [["one text"], ["another"]])


def test_contradicting_options():
    with pytest.raises(UserError, match="give text too"):
        SentencesData.read({"path": "a", "second": "b"})
    with pytest.raises(UserError, match="different columns"):
        SentencesData.read({"path": "a", "text": "b", "label": "b"})
