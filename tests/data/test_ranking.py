"""A collection searched, split and laid out: the first stage, groups of training, pairs of a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from descent.data.batches import Batches, sweep
from descent.data.load import load_texts, tokenize_texts
from descent.data.ranking import Ranking, RankingSplit
from descent.data.ranking_config import RankingData
from descent.text import train

pytest.importorskip("bm25s")

SUBJECTS = ["river", "stone", "cloud", "forest", "engine", "violin", "harbour", "lantern", "winter", "garden"]
VERBS = ["moves", "sleeps", "glows", "breaks", "returns"]


def write(folder: Path, kind: str = "tsv") -> Path:
    """Fifty documents, one a subject and a verb; ten queries, each for both."""
    texts = {
        f"d{s}{v}": f"the {a} {b} near the old town"
        for s, a in enumerate(SUBJECTS)
        for v, b in enumerate(VERBS)
    }
    queries = {f"q{s}": f"which {a} {VERBS[s % 5]}?" for s, a in enumerate(SUBJECTS)}
    judged = [(f"q{s}", f"d{s}{s % 5}", 2) for s in range(10)]
    judged += [(f"q{s}", f"d{s}{(s + 1) % 5}", 1) for s in range(10)]
    judged += [(f"q{s}", f"d{s}{(s + 2) % 5}", -1) for s in range(10)]
    for name, held in (("corpus", texts), ("queries", queries)):
        if kind == "tsv":
            lines = [f"{key}\t{text}" for key, text in held.items()]
        else:
            lines = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in held.items()]
        (folder / f"{name}.{kind}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [f"{query}\t{document}\t{grade}" for query, document, grade in judged]
    (folder / "qrels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def config(path: Path, **changes: Any) -> RankingData:
    return RankingData.read(
        {"path": str(path), "length": 48, "query_length": 12, "depth": 8, "negatives": 3, **changes}
    )


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = [f"{one} " for one in [*SUBJECTS, *VERBS, "the", "near", "old", "town", "which", "?"]]
    return train("bpe", words * 20, 330, marks="bert")


def loaded(path: Path, **changes: Any) -> Ranking:
    found = load_texts(config(path, **changes), False)
    assert isinstance(found, Ranking)
    return found


def test_the_first_stage_puts_what_has_both_words_first(tmp_path: Path) -> None:
    found = loaded(write(tmp_path))
    for one in [query for held in found.splits.values() for query in held]:
        number = int(one.name[1:])
        assert found.names[one.found[0]] == f"d{number}{number % 5}"
        assert {found.names[n] for n in one.found[1:5]} < {f"d{number}{v}" for v in range(5)}
        assert (np.diff(one.scores) <= 0).all()
        assert len(one.found) == 8


def test_every_query_is_tested_in_one_fold_and_validated_in_another(tmp_path: Path) -> None:
    write(tmp_path)
    tested: list[str] = []
    validated: list[str] = []
    for fold in range(5):
        splits = {
            name: [one.name for one in held] for name, held in loaded(tmp_path, fold=fold).splits.items()
        }
        assert sorted(name for held in splits.values() for name in held) == sorted(f"q{s}" for s in range(10))
        assert list(map(len, splits.values())) == [6, 2, 2]
        tested += splits["test"]
        validated += splits["validation"]
    assert sorted(tested) == sorted(validated) == sorted(f"q{s}" for s in range(10))


@pytest.mark.parametrize("packing", ["documents", "padded"])
def test_a_sweep_gives_every_pair_once_in_order(tmp_path: Path, tokenizer: Any, packing: str) -> None:
    found = loaded(write(tmp_path))
    split = tokenize_texts(found, config(tmp_path, packing=packing), tokenizer).splits["test"]
    assert isinstance(split, RankingSplit)
    targets: list[list[int]] = []
    texts: list[str] = []
    for batch in sweep(split, 5):
        asked = batch["targets"][..., 0] != -100
        targets += batch["targets"][asked].tolist()
        for n, k in asked.nonzero().tolist():
            own = batch["documents"][n] == k
            second = own & (batch["segments"][n] == 1)
            texts.append(tokenizer.decode(batch["tokens"][n][own & ~second].tolist()) + "|")
            texts[-1] += tokenizer.decode(batch["tokens"][n][second].tolist())
            assert batch["tokens"][n][own][0] == tokenizer.begin
            assert int(batch["starts"][n, k]) == int(own.nonzero()[0])
    wanted = [
        (turn, max(one.judged.get(int(number), 0), 0), f"{one.text}|{found.documents[number]}")
        for turn, one in enumerate(found.splits["test"])
        for number in one.found
    ]
    assert targets == [list(row[:2]) for row in wanted]
    assert texts == [row[2] for row in wanted]


def test_a_group_has_one_relevant_document_and_others_drawn_anew(tmp_path: Path, tokenizer: Any) -> None:
    found = loaded(write(tmp_path))
    split = tokenize_texts(found, config(tmp_path), tokenizer).splits["train"]
    assert len(split) == 12
    seen = set()
    for epoch in range(6):
        batch = split.gather(np.arange(12), 1, epoch)
        again = split.gather(np.arange(12), 1, epoch)
        assert all(torch.equal(batch[name], again[name]) for name in batch)
        alone = split.gather(np.array([7]), 1, epoch)
        asked = batch["targets"][..., 0] != -100
        groups, grades = batch["targets"][asked].unbind(1)
        assert sorted(set(groups.tolist())) == [epoch * 12 + n for n in range(12)]
        for group in set(groups.tolist()):
            assert grades[groups == group].sum() == 1
            assert (groups == group).sum() == 4
        numbers = {
            tuple(alone["tokens"][n][alone["documents"][n] == k].tolist())
            for n, k in (alone["targets"][..., 1] == 0).nonzero().tolist()
        }
        seen.add(frozenset(numbers))
        held = {
            tuple(batch["tokens"][n][batch["documents"][n] == k].tolist())
            for n, k in (batch["targets"][..., 0] == epoch * 12 + 7).nonzero().tolist()
        }
        assert numbers < held
    assert len(seen) > 1


def test_a_document_graded_below_zero_is_never_a_wrong_example(tmp_path: Path, tokenizer: Any) -> None:
    found = loaded(write(tmp_path))
    split = tokenize_texts(found, config(tmp_path, negatives=50), tokenizer).splits["train"]
    assert isinstance(split, RankingSplit)
    for index in range(len(split)):
        query = split.queries[index // 2]
        number = int(query.name[1:])
        batch = split.gather(np.array([index]), 1, 0)
        wrong = [
            tokenizer.decode(
                batch["tokens"][n][(batch["documents"][n] == k) & (batch["segments"][n] == 1)].tolist()
            )
            for n, k in (batch["targets"][..., 1] == 0).nonzero().tolist()
        ]
        assert len(wrong) == 5
        assert not {
            f"the {SUBJECTS[number]} {VERBS[(number + more) % 5]} near the old town" for more in range(3)
        } & set(wrong)


def test_a_batch_over_two_epochs_keeps_its_groups_apart(tmp_path: Path, tokenizer: Any) -> None:
    split = tokenize_texts(loaded(write(tmp_path)), config(tmp_path), tokenizer).splits["train"]
    batch = Batches(split, 5, 3).batch(2)
    groups = batch["targets"][..., 0]
    numbers, counts = groups[groups != -100].unique(return_counts=True)
    assert len(numbers) == 5
    assert counts.tolist() == [4] * 5
    assert {int(number) // 12 for number in numbers} == {0, 1}


def test_both_forms_of_files_and_of_judgements_are_one(tmp_path: Path, tokenizer: Any) -> None:
    for name in ("tsv", "jsonl", "trec"):
        (tmp_path / name).mkdir()
    write(tmp_path / "tsv")
    write(tmp_path / "jsonl", "jsonl")
    write(tmp_path / "trec")
    lines = [line.split("\t") for line in (tmp_path / "tsv" / "qrels.tsv").read_text().splitlines()]
    (tmp_path / "trec" / "qrels.tsv").write_text("\n".join(f"{q} 0 {d} {g}" for q, d, g in lines))
    for name in ("corpus", "queries"):
        file = tmp_path / "trec" / f"{name}.tsv"
        file.write_text("id\ttext\n" + file.read_text())
    (tmp_path / "jsonl" / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + (tmp_path / "tsv" / "qrels.tsv").read_text()
    )
    prints = {loaded(tmp_path / name).fingerprint for name in ("tsv", "jsonl", "trec")}
    assert len(prints) == 1
    data = tokenize_texts(loaded(tmp_path / "tsv"), config(tmp_path / "tsv"), tokenizer)
    assert data.sizes["outputs"] == 1
    assert data.preparation["path"] == str(tmp_path / "tsv")


def test_chinese_is_searched_by_pairs_of_characters(tmp_path: Path) -> None:
    from descent.data.bm25 import BM25, terms

    assert terms("北京大学 and 人", None) == ["北京", "京大", "大学", "人", "and"]
    index = BM25(["上海的大学很多", "北京大学在北京", "广州的天气"], True)
    numbers, scores = index.best("北京大学", 3)
    assert numbers.tolist() == [1, 0, 2]
    assert scores[2] == 0
    assert index.best("完全无关", 2)[0].tolist() == [0, 1]


def test_cranfield_has_its_published_sizes(local_data: Path) -> None:
    found = load_texts(RankingData(source="cranfield"), False)
    assert isinstance(found, Ranking)
    assert len(found.documents) == 1400
    queries = {one.name: one for held in found.splits.values() for one in held}
    assert len(queries) == 225
    assert sum(len(one.judged) for one in queries.values()) == 1837
    grades = [grade for one in queries.values() for grade in one.judged.values()]
    assert [grades.count(grade) for grade in (-1, 1, 2, 3, 4)] == [225, 363, 734, 387, 128]
    # the qrels number queries by place: the second is .I 002, the third .I 004
    assert queries["3"].text.startswith("what problems of heat conduction")
    assert found.documents[0].startswith("experimental investigation of the aerodynamics of a wing in a slip")
    assert found.notes == ("2 documents have no text",)
    assert all(len(one.found) == 50 for one in queries.values())
