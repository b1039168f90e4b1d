"""Texts by name: several at once, and those of sets with labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from descent.data import load_text
from descent.data.attending_entries import ATTENDING
from descent.data.config import TextData
from descent.data.load import Documents
from descent.data.masked_config import MaskedData, SpansData
from descent.data.sentences import Sentences
from descent.errors import UserError


def texts(source: str) -> Documents:
    return load_text(MaskedData(source=source), False)


def test_several_texts_are_joined_split_by_split():
    found = texts("python-docs+python-source")
    parts = [texts("python-docs"), texts("python-source")]
    for split in ("train", "validation", "test"):
        assert found.splits[split] == parts[0].splits[split] + parts[1].splits[split]
    assert found.name == "python-docs+python-source"
    assert found.about.startswith("python-docs: the reference topics")
    assert (
        load_text(TextData(source=found.name), False)
        == found
        == load_text(SpansData(source=found.name), False)
    )


def test_a_name_that_is_no_text_is_refused_among_several():
    with pytest.raises(UserError, match="names a text twice"):
        texts("python-docs+python-docs")
    with pytest.raises(UserError, match=r"(?s)python-dcos.*python-docs"):
        texts("python-docs+python-dcos")
    with pytest.raises(UserError, match=r"iris is a table, not text"):
        texts("python-docs+iris")


def test_a_factor_repeats_what_is_trained_on_and_nothing_else():
    once = [texts("python-docs"), texts("python-source")]
    found = texts("python-docs*3+python-source")
    assert found.splits["train"] == once[0].splits["train"] * 3 + once[1].splits["train"]
    for split in ("validation", "test"):
        assert found.splits[split] == once[0].splits[split] + once[1].splits[split]
    assert texts("python-docs*2").splits["train"] == once[0].splits["train"] * 2


@pytest.mark.parametrize("times", ["0", "101", "-1", "two", "1.5", "2*2"])
def test_a_factor_is_a_small_whole_number(times: str):
    with pytest.raises(UserError, match=r"(?s)python-docs cannot be repeated.*1 to 100"):
        texts(f"python-docs*{times}")


def test_entries_name_their_licence_and_check_their_bytes():
    for entry in ATTENDING:
        assert entry.licence
        assert all(file.sha256 and file.bytes and file.url.startswith("https://") for file in entry.files)
        assert ("non-commercial" in entry.about) == ("-NC" in entry.licence)


COUNTS = {
    "wikitext-2-all": 122,
    "multi30k-en": 29_000,
    "multi30k-de": 29_000,
    "gsm8k-questions": 7_473,
    "self-instruct": 427,
    "alpaca-en": 999,
    "alpaca-zh": 1_000,
}


@pytest.mark.parametrize("name", COUNTS)
def test_texts_without_labels(name: str, local_data: Path):
    found = [text for split in texts(name).splits.values() for text in split]
    assert len(found) == COUNTS[name]
    assert all(text.strip() for text in found)


def test_what_a_document_is(local_data: Path):
    first = json.loads((local_data / "gsm8k" / "train.jsonl").read_text().split("\n")[0])
    held = [text for split in texts("gsm8k-questions").splits.values() for text in split]
    assert first["question"] in held
    assert not any("####" in text for text in held)
    task = json.loads((local_data / "self-instruct" / "seed_tasks.jsonl").read_text().split("\n")[0])
    held = [text for split in texts("self-instruct").splits.values() for text in split]
    assert f"{task['instruction']}\n{task['instances'][0]['output'].strip()}\n" in held
    assert (
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
        in texts("multi30k-de").splits["train"]
    )


@pytest.mark.parametrize("name", ["sst2", "chnsenticorp-hotel", "sick2014", "ocnli"])
def test_sets_of_sentences_are_texts_but_for_their_test(name: str, local_data: Path):
    from descent.data.load import load_texts
    from descent.data.sentences_config import SentencesData

    found, held = texts(name), load_texts(SentencesData(source=name), False)
    assert isinstance(held, Sentences)
    assert set(found.splits) == {"train", "validation"}
    for split in found.splits:
        wanted = [f"{one.text} {one.second}" if one.second else one.text for one in held.splits[split]]
        if split == "validation":
            wanted = [text for text in wanted if text not in set(found.splits["train"])]
        assert set(found.splits[split]) == set(wanted)
        assert len(found.splits[split]) == len(set(wanted))
    assert held.double == any(" ".join((one.text, one.second)) in wanted for one in held.splits["validation"])


def test_a_text_to_be_questioned_is_followed_by_its_questions(local_data: Path):
    first = json.loads((local_data / "xquad" / "xquad.en.json").read_text())["data"][0]["paragraphs"]
    splits = texts("xquad-en").splits
    known = [text for split in splits.values() for text in split]
    whole = [" ".join((one["context"], *(asked["question"] for asked in one["qas"]))) for one in first]
    assert set(whole) <= set(known)
    assert len(known) == len(set(known)) < 240


def test_no_query_of_a_collection_is_among_its_texts(local_data: Path):
    from descent.data.load import load_texts
    from descent.data.ranking_config import RankingData

    held = load_texts(RankingData(source="cranfield"), False)
    known = {text for split in texts("cranfield").splits.values() for text in split}
    assert len(known) > 1_200
    assert not known.intersection(one.text for split in held.splits.values() for one in split)  # type: ignore[attr-defined]


def test_hotel_reviews_of_the_test_are_not_among_the_texts(local_data: Path):
    from descent.data.load import load_texts
    from descent.data.sentences_config import SentencesData

    held = load_texts(SentencesData(source="chnsenticorp-hotel"), False)
    known = {text for split in texts("chnsenticorp-hotel").splits.values() for text in split}
    assert not known.intersection(held.texts("test"))
    assert len(known) > 6_000


def test_no_held_out_text_is_trained_on(local_data: Path):
    for source in ("cranfield", "xquad-en+wnut17+cranfield"):
        splits = texts(source).splits
        assert splits["validation"]
        assert not set(splits["train"]).intersection(splits["validation"])
        assert sum(len(text) > 300 for text in splits["train"]) > 1_200  # the abstracts are there
