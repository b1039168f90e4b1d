"""The user's own text: what is read, what is refused and how the refusal reads, and how it is split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descent.data import TextData, load_text, sweep, tokenize
from descent.errors import UserError
from descent.text import train

LONG = "".join(f"Line {number} of a text.\n" for number in range(200))


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def joined(path: Path, **options: object) -> str:
    """Everything that was read, put together again."""
    documents = load_text(TextData(path=str(path), **options))  # type: ignore[arg-type]
    return "".join(
        text for split in ("train", "validation", "test") for text in documents.splits.get(split, ())
    )


@pytest.mark.parametrize(
    "content",
    [
        "one\r\ntwo\r\n",
        "tab\tand\fform feed",
        "a\0b" * 2 + "x" * 200,
        "床前明月光\n",
        "🙂\u2028\u0085\u200b",
        "\n\n  \n",
        "\x1b[1m",
    ],
)
def test_text_is_kept_exactly(tmp_path: Path, content: str):
    assert joined(write(tmp_path / "a.txt", content)) == content


def test_a_byte_order_mark_is_removed_and_only_at_the_start(tmp_path: Path):
    assert joined(write(tmp_path / "a.txt", "\ufeffone\ufefftwo")) == "one\ufefftwo"


@given(
    content=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300)
)
def test_any_text_is_kept_exactly(tmp_path_factory: pytest.TempPathFactory, content: str):
    path = write(tmp_path_factory.mktemp("t") / "a.txt", content)
    if content != "\ufeff":
        assert joined(path) == content.removeprefix("\ufeff")


REFUSED = {
    "nothing": (b"", "is empty"),
    "only a mark": (b"\xef\xbb\xbf", "is empty"),
    "latin-1": ("line\ncafé au lait".encode("latin-1"), r"not UTF-8: byte 8 \(line 2\)"),
    "gb18030": ("床前明月光".encode("gb18030"), "not UTF-8: byte 0"),
    "cut character": ("好".encode()[:2], "not UTF-8"),
    "utf-16": ("text".encode("utf-16"), "is UTF-16"),
    "surrogate": (b"\xed\xa0\x80", "not UTF-8"),
    "overlong": (b"\xc0\xaf", "not UTF-8"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG image, not text"),
    "zip": (b"PK\x03\x04" + bytes(50), "is a zip file, not text"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "is a gzip file, not text"),
    "zeros": (bytes(1000), "looks binary"),
    "noise": (bytes(range(256)) * 10, "looks binary"),
    "noise below 128": (bytes(range(128)) * 10, "looks binary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_text_is_refused(tmp_path: Path, name: str):
    content, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        joined(write(tmp_path / "book.txt", content))
    assert caught.value.exit_code == 2
    assert "book.txt" in caught.value.what


def test_a_wrong_path_names_the_nearest_file(tmp_path: Path):
    write(tmp_path / "shakespeare.txt", "x")
    with pytest.raises(UserError, match=r"did you mean .*shakespeare\.txt"):
        joined(tmp_path / "shakespear.txt")
    with pytest.raises(UserError, match="there is no such folder"):
        joined(tmp_path / "books" / "shakespeare.txt")
    with pytest.raises(UserError, match="no text files"):
        joined(write(tmp_path / "pictures" / "a.png", "x").parent)
    with pytest.raises(UserError, match="no file matches"):
        joined(tmp_path / "*.tex")


def test_a_folder_and_a_pattern_read_their_files_in_order(tmp_path: Path):
    for name in ("b.txt", "a.md", "deep/c.txt", ".hidden.txt", "deep/.git/d.txt", "e.png"):
        write(tmp_path / name, name * 30)
    options = {"validation": 0.0, "test": 0.0}
    assert joined(tmp_path, **options) == "a.md" * 30 + "b.txt" * 30 + "deep/c.txt" * 30
    assert joined(tmp_path / "**" / "*.txt", **options) == "b.txt" * 30 + "deep/c.txt" * 30


def test_one_long_text_gives_its_tails(tmp_path: Path):
    documents = load_text(TextData(path=str(write(tmp_path / "a.txt", LONG)), validation=0.1, test=0.2))
    cuts = [round(len(LONG) * 0.7), round(len(LONG) * 0.8)]
    assert documents.running
    assert documents.splits["train"] == [LONG[: cuts[0]]]
    assert documents.splits["validation"] == [LONG[cuts[0] : cuts[1]]]
    assert documents.splits["test"] == [LONG[cuts[1] :]]


def test_lines_and_paragraphs_are_documents_split_by_content(tmp_path: Path):
    lines = [f"line {number}" for number in range(400)]
    path = write(tmp_path / "a.txt", "\r\n".join(lines) + "\r\n \r\n")
    documents = load_text(TextData(path=str(path), document="line", validation=0.1, test=0.1))
    assert not documents.running
    assert sorted(text for texts in documents.splits.values() for text in texts) == sorted(lines)
    assert 20 <= len(documents.splits["validation"]) <= 60
    # the same lines in another order, and others beside them, change no line's split
    write(path, "\n".join([*reversed(lines), *(f"other {number}" for number in range(100)), "line 1"]))
    again = load_text(TextData(path=str(path), document="line", validation=0.1, test=0.1))
    for name, texts in documents.splits.items():
        assert set(texts) <= set(again.splits[name])
        assert sum(text == "line 1" for text in again.splits[name]) in (0, 2)
    write(path, "one\ntwo\n\n \n\nthree\n\nfour\n")
    paragraphs = load_text(TextData(path=str(path), document="paragraph", validation=0.0, test=0.0))
    assert paragraphs.splits == {"train": ["one\ntwo", "three", "four"]}


def test_files_named_for_splits_keep_them(tmp_path: Path):
    write(tmp_path / "train.txt", LONG)
    write(tmp_path / "valid.txt", "v" * 50)
    write(tmp_path / "test.txt", "t" * 50)
    documents = load_text(TextData(path=str(tmp_path)))
    assert documents.splits == {"train": [LONG], "validation": ["v" * 50], "test": ["t" * 50]}
    (tmp_path / "valid.txt").unlink()
    documents = load_text(TextData(path=str(tmp_path), validation=0.1))
    assert "".join(documents.splits["train"] + documents.splits["validation"]) == LONG
    write(tmp_path / "notes.txt", "n")
    with pytest.raises(UserError, match=r"notes\.txt stands beside files named for splits"):
        load_text(TextData(path=str(tmp_path)))


def test_json_and_csv_give_a_column(tmp_path: Path):
    rows = [{"text": f"第 {number} 行\n", "other": 1} for number in range(5)]
    options = {"validation": 0.0, "test": 0.0}
    expected = "".join(f"第 {number} 行\n" for number in range(5))
    lines = "\n".join(json.dumps(row) for row in rows)
    assert joined(write(tmp_path / "a.jsonl", lines + "\n\n"), **options) == expected
    assert joined(write(tmp_path / "a.json", json.dumps(rows)), **options) == expected
    assert joined(write(tmp_path / "b.json", json.dumps(["x", "y", "z"])), **options) == "xyz"
    table = 'id,body\n1,"a ""quoted"", one\nof two lines"\n2,b\n3,c\u2028d\n'
    assert (
        joined(write(tmp_path / "a.csv", table), column="body", **options)
        == 'a "quoted", one\nof two linesbc\u2028d'
    )
    assert joined(write(tmp_path / "a.tsv", "text\tn\nx, y\t1\nz\t2\nw\t3\n"), **options) == "x, yzw"


STRUCTURED = {
    "a.jsonl": [
        (
            '{"body": "x"}',
            {"column": "bdy"},
            r"line 1: there is no column 'bdy'(.|\n)*did you mean data.column=body",
        ),
        ('{"text": "x"}\n\n{"text": 3}', {}, "line 3: text is not text"),
        ('{"text": "x"}\n{oops', {}, "line 2: not JSON"),
        ('{"text": "x"}\n[1]', {}, "line 2: not an object"),
        (r'{"text": "\ud800"}', {}, "line 1: half of a surrogate pair"),
        ("[" * 100_000, {}, "line 1: not JSON"),
    ],
    "a.json": [('{"text": "x"}', {}, "list of documents"), ("[{]", {}, "not JSON")],
    "a.csv": [
        ("id,body\n1,x\n", {"column": "boddy"}, "did you mean data.column=body"),
        ("id,text\n1,x\n2\n", {}, "line 3: a row of 1 cells"),
        ('id,text\n1,"x\n', {}, "line 2: "),
        ("id,text\n", {}, "has no rows"),
        ("text,text\n1,2\n", {}, "same name"),
    ],
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in STRUCTURED.items() for case in cases]
)
def test_structured_files_name_the_place_of_a_fault(tmp_path: Path, name: str, case: tuple[str, dict, str]):
    content, options, message = case
    with pytest.raises(UserError, match=message) as caught:
        joined(write(tmp_path / name, content), **options)
    assert name in str(caught.value)


@pytest.mark.parametrize("text", ["a", "ab", "x" * 16])
def test_text_shorter_than_a_row_says_what_it_needs(tmp_path: Path, text: str):
    config = TextData(path=str(write(tmp_path / "a.txt", text)), validation=0.0, test=0.0)
    documents = load_text(config)
    with pytest.raises(UserError, match="the train text is too short") as caught:
        tokenize(documents, config, train("byte", [text]), 16)
    assert caught.value.got == f"'{len(text)} tokens'"
    assert "at least 17: one row of 16" in str(caught.value.expected)
    assert "data.length" in str(caught.value.hint)


def test_the_shortest_text_that_suffices(tmp_path: Path):
    config = TextData(path=str(write(tmp_path / "a.txt", "abcdefghi")), validation=0.0, test=0.0)
    dataset = tokenize(load_text(config), config, train("byte", ["a"]), 8)
    batch = dataset.splits["train"].gather(np.array([0]), seed=0, epoch=0)
    assert (batch["tokens"].tolist(), batch["targets"].tolist()) == ([list(b"abcdefgh")], [list(b"bcdefghi")])


def test_a_held_out_text_of_one_token_says_so(tmp_path: Path):
    config = TextData(path=str(write(tmp_path / "a.txt", "x" * 20)), validation=0.05, test=0.0)
    with pytest.raises(UserError, match=r"the validation text is too short(.|\n)*data\.validation=0"):
        tokenize(load_text(config), config, train("byte", ["x"]), 8)


def test_a_stream_of_documents_stands_between_marks(tmp_path: Path):
    path = write(tmp_path / "a.txt", "ab\nc\ndef\n")
    config = TextData(path=str(path), document="line", validation=0.0, test=0.0, length=3)
    tokenizer = train("byte", ["a"])
    dataset = tokenize(load_text(config), config, tokenizer)
    split = dataset.splits["train"]
    assert split.bytes == 6
    tokens = [row["tokens"][0].tolist() for row in sweep(split, 1)]
    assert tokens == [[256, 97, 98], [256, 99, 256], [100, 101, 102]]
    assert dataset.preparation["start"] == [256]


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_bytes_are_those_that_a_sweep_predicts(tmp_path: Path, packing: str):
    """Running text predicts all but its first token; whole documents begin with a mark and predict all."""
    text = "春眠不覺曉\n" * 40
    config = TextData(path=str(write(tmp_path / "a.txt", text)), packing=packing, length=16, validation=0.5)  # type: ignore[arg-type]
    tokenizer = train("char", [text])
    dataset = tokenize(load_text(config), config, tokenizer)
    for split in dataset.splits.values():
        predicted = 0
        for batch in sweep(split, 4):
            targets = batch["targets"][batch["targets"] >= 0].tolist()
            predicted += len(tokenizer.decode(targets).encode())
        assert split.bytes == predicted


def test_the_fingerprint_follows_content_and_settings(tmp_path: Path):
    def fingerprint(text: str, **options: object) -> str:
        config = TextData(path=str(write(tmp_path / "a.txt", text)), length=4, **options)  # type: ignore[arg-type]
        return tokenize(load_text(config), config, train("byte", ["x"])).fingerprint

    first = fingerprint(LONG)
    assert fingerprint(LONG) == first
    others = [
        fingerprint(LONG[:-1] + "!"),
        fingerprint(LONG, validation=0.2),
        fingerprint(LONG, packing="documents"),
    ]
    assert len({first, *others}) == 4


def test_source_and_path_exclude_each_other():
    for options in ({}, {"source": "names", "path": "x"}):
        with pytest.raises(UserError, match="exactly one of source"):
            TextData.read(options)
    with pytest.raises(UserError, match="leave something to train on"):
        TextData.read({"source": "names", "validation": 0.5, "test": 0.5})
    with pytest.raises(UserError, match="did you mean 'tinyshakespeare'"):
        load_text(TextData(source="tinyshakspeare"))
    with pytest.raises(UserError, match="mnist is images, not text"):
        load_text(TextData(source="mnist"))


def test_a_train_file_deep_in_a_folder_names_no_split(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    for name in ("a.py", "deep/train.py", "deep/b.py"):
        (tmp_path / name).write_text("print('some words to read')\n" * 40, encoding="utf-8")
    assert load_text(TextData(path=str(tmp_path))).about != "splits as the files are named"


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path: Path):
    for name in ("a.txt", "b.html", ".hidden.html"):
        (tmp_path / name).write_text("some words to read. " * 40, encoding="utf-8")
    documents = load_text(TextData(path=str(tmp_path)))
    assert [line.partition(":")[0] for line in documents.skipped] == [str(tmp_path / "b.html")]
    assert load_text(TextData(path=str(tmp_path / "*"))).skipped == ()
