"""What is said of a user's folder of documents, queries and judgements that has a fault."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from descent.data.bm25 import BM25
from descent.data.load import load_texts
from descent.data.ranking import Ranking
from descent.data.ranking_config import RankingData
from descent.data.ranking_files import read_collection
from descent.errors import UserError

FILES = {
    "corpus.tsv": "".join(f"d{n}\tdocument number {n} of many\n" for n in range(8)),
    "queries.tsv": "".join(f"q{n}\twhich is number {n}?\n" for n in range(6)),
    "qrels.tsv": "".join(f"q{n}\td{n}\t1\n" for n in range(6)),
}


def write(folder: Path, **changes: str | None) -> Path:
    files: dict[str, str | None] = {
        **FILES,
        **{name.replace("_", "."): text for name, text in changes.items()},
    }
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    return folder


FAULTS: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "no judgements": (
        {"qrels_tsv": None},
        ["there is no file qrels", "corpus.tsv", "qrels.tsv or qrels.txt"],
    ),
    "two files": ({"corpus_jsonl": "{}"}, ["there are two files corpus"]),
    "an unknown document": (
        {"qrels_tsv": "q0\td0\t1\nq1\td11\t1\n"},
        ["qrels.tsv, line 2", "no document of that name in corpus", "'d11'", "did you mean 'd1'"],
    ),
    "an unknown query": ({"qrels_tsv": "z\td0\t1\n"}, ["line 1", "no query of that name in queries", "'z'"]),
    "a name twice": ({"corpus_tsv": "d0\ta\nd1\tb\nd0\tc\n"}, ["corpus.tsv, line 3", "there before", "'d0'"]),
    "two grades": ({"qrels_tsv": "q0\td0\t1\nq0\td0\t2\n"}, ["line 2", "another grade"]),
    "an empty query": ({"queries_tsv": FILES["queries.tsv"] + "q9\t \n"}, ["the query q9 is empty"]),
    "no tab": ({"corpus_tsv": "d0 a text\n"}, ["corpus.tsv, line 1: no tab", "'d0 a text'"]),
    "no name": ({"corpus_tsv": "\ta text\n"}, ["corpus.tsv, line 1: the name is empty"]),
    "an empty corpus": ({"corpus_tsv": "\n"}, ["corpus.tsv is empty"]),
    "a grade in words": (
        {"qrels_tsv": "q0\td0\t1\nq1\td1\tgood\n"},
        ["qrels.tsv, line 2: no judgement", "TREC"],
    ),
    "two columns": ({"qrels_tsv": "q0\t1\n"}, ["qrels.tsv, line 1: no judgement"]),
    "only names of columns": (
        {"qrels_tsv": "query-id\tcorpus-id\tscore\n"},
        ["qrels.tsv holds no judgements"],
    ),
    "broken JSON": (
        {"corpus_tsv": None, "corpus_jsonl": '{"id": "d0", "text": "a"}\n{"id" "d1"}\n'},
        ["corpus.jsonl, line 2: not JSON: Expecting ':'"],
    ),
    "no text": (
        {"corpus_tsv": None, "corpus_jsonl": '{"id": "d0", "body": "a"}\n'},
        ['corpus.jsonl, line 1: there is no "text"', "id, body"],
    ),
    "no id": ({"corpus_tsv": None, "corpus_jsonl": '{"text": "a"}\n'}, ['line 1: there is no "id"']),
    "a text that is none": (
        {"corpus_tsv": None, "corpus_jsonl": '{"id": "d0", "text": 7}\n'},
        ["line 1: the text is no text", "7"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    changes, words = FAULTS[name]
    with pytest.raises(UserError) as caught:
        read_collection(str(write(tmp_path, **changes)))
    for word in words:
        assert word in str(caught.value)


def load(folder: Path, **changes: Any) -> Ranking:
    found = load_texts(RankingData.read({"path": str(folder), **changes}), False)
    assert isinstance(found, Ranking)
    return found


def test_queries_without_a_relevant_document_are_left_out_and_said(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    write(tmp_path, qrels_tsv=FILES["qrels.tsv"].replace("q3\td3\t1", "q3\td3\t0"))
    found = load(tmp_path)
    assert sorted(one.name for held in found.splits.values() for one in held) == [
        "q0",
        "q1",
        "q2",
        "q4",
        "q5",
    ]
    assert found.notes == ("1 queries without a relevant document were left out",)


def test_no_relevant_document_at_all_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    write(tmp_path, qrels_tsv=FILES["qrels.tsv"].replace("\t1\n", "\t0\n"))
    with pytest.raises(UserError, match="no query has a relevant document"):
        load(tmp_path)


def test_too_few_queries_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    write(tmp_path, qrels_tsv="q0\td0\t1\nq1\td1\t1\n")
    with pytest.raises(UserError, match="too few queries to be split"):
        load(tmp_path)


def test_an_empty_document_is_kept_and_a_megabyte_read(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    write(
        tmp_path, corpus_tsv=FILES["corpus.tsv"] + "none\t\nlong\t" + "far away " * 120_000 + "lighthouse\n"
    )
    found = load(tmp_path)
    assert found.notes == ("1 documents have no text",)
    assert found.names[BM25(found.documents, True).best("lighthouse", 1)[0][0]] == "long"


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "bm25s":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'descent\[ranking\]'"):
        BM25(["a"], True)


def test_a_query_must_leave_room_for_a_document() -> None:
    with pytest.raises(UserError, match="no room for a document"):
        RankingData.read({"path": "x", "length": 40, "query_length": 40})
    with pytest.raises(UserError, match="there is no such folder"):
        read_collection("nowhere")
