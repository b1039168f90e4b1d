"""`descent list`, `recipe`, `data`, `ledger`, `doctor`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from descent import ledger
from descent.data.registry import ENTRIES
from descent.errors import CorruptArtifact
from descent.models import MODELS
from descent.recipes import CATALOG, resolve


def test_list_names_everything_there_is(descent):
    text = descent("list").out
    for name in (*CATALOG, *MODELS, *ENTRIES):
        assert re.search(rf"^{re.escape(name)} ", text, flags=re.MULTILINE), name
    found = descent("list", "--json").json
    assert {key: [row["name"] for row in rows] for key, rows in found.items()} == {
        "recipes": list(CATALOG),
        "models": list(MODELS),
        "data": list(ENTRIES),
    }
    assert all(row["about"] for rows in found.values() for row in rows)


@pytest.mark.parametrize("kind", ["recipes", "models", "data"])
def test_list_of_one_kind(descent, kind):
    assert descent("list", kind, "--json").json == descent("list", "--json").json[kind]
    lines = descent("list", kind).out.splitlines()
    assert len(lines) == 1 + len({"recipes": CATALOG, "models": MODELS, "data": ENTRIES}[kind])


def test_a_size_that_nobody_published_is_said_to_be_that(descent):
    (line,) = (line for line in descent("data", "list").out.splitlines() if line.startswith("fsdd "))
    assert "no size published" in line


def test_tables_in_a_pipe_are_not_cut(descent, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert ENTRIES["wikitext-2"].about in descent("data", "list").out


@pytest.mark.parametrize("name", CATALOG)
def test_a_shown_recipe_is_the_recipe(descent, tmp_path, name):
    text = descent("recipe", "show", name).out
    (tmp_path / "whole.toml").write_text(text, encoding="utf-8")
    assert resolve(tmp_path / "whole.toml") == resolve(name)
    assert descent("recipe", "show", name, "--json").json == tomllib.loads(text)


@pytest.mark.parametrize("name", CATALOG)
def test_a_copied_recipe_changes_nothing_until_a_line_is_uncommented(descent, tmp_path, name):
    assert descent("recipe", "copy", name, "mine.toml").out == "mine.toml\n"
    copied, base = resolve(tmp_path / "mine.toml").table(), resolve(name).table()
    base.pop("claim", None)
    assert copied == {**base, "name": "mine"}


@pytest.mark.parametrize("name", CATALOG)
def test_every_line_of_a_copied_recipe_can_be_uncommented(descent, tmp_path, name):
    descent("recipe", "copy", name, "mine.toml")
    text = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    options = re.findall(r"^#(?! )(?!\[)(\w+) = ", text, flags=re.MULTILINE)
    assert len(options) > 25
    whole = tomllib.loads(re.sub(r"^#(?! )", "", text, flags=re.MULTILINE))
    base = resolve(name).table()
    for table, values in base.items():
        for key, value in values.items() if isinstance(values, dict) and table != "claim" else ():
            assert whole[table][key] == value, (table, key)


def test_a_changed_line_of_a_copied_recipe_counts(descent, tmp_path):
    descent("recipe", "copy", "gpt", "mine.toml")
    path = tmp_path / "mine.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^#depth = \d+", "depth = 3", text, flags=re.MULTILINE), encoding="utf-8")
    assert tomllib.loads(descent("train", "mine.toml", "--dry-run").out)["model"]["depth"] == 3


def test_options_of_a_copied_recipe_are_explained(descent, tmp_path):
    descent("recipe", "copy", "gpt", "mine.toml")
    text = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert "# Examples a step" in text  # from a field's description
    assert "# Longest row, in tokens." in text  # from a class's docstring
    models = ", ".join(f'"{name}"' for name in MODELS)
    assert f'#type = "gpt"   # one of {models}' in text
    assert "at least 0 and below 1; default 0.0" in text


def test_a_copy_never_overwrites(descent, tmp_path):
    (tmp_path / "mine.toml").write_text("mine", encoding="utf-8")
    assert "mine.toml exists already" in descent("recipe", "copy", "gpt", "mine.toml", code=2).err
    assert (tmp_path / "mine.toml").read_text(encoding="utf-8") == "mine"
    assert "ends in .toml" in descent("recipe", "copy", "gpt", "mine.txt", code=2).err
    assert "cannot be written" in descent("recipe", "copy", "gpt", "none/mine.toml", code=2).err


def test_a_dry_run_prints_the_resolved_recipe_and_makes_nothing(descent, tmp_path):
    text = descent("train", "gpt", "model.depth=6", "data.path=书.txt", "--dry-run").out
    recipe = tomllib.loads(text)
    assert recipe["model"]["depth"] == 6
    assert recipe["data"]["path"] == "书.txt"
    assert list(tmp_path.iterdir()) == []


def test_data_show_and_path(descent, local_data):
    facts = descent("data", "show", "tinyshakespeare", "--json").json
    assert Path(facts["files"][0]["path"]).resolve() == local_data / "tinyshakespeare" / "input.txt"
    text = descent("data", "show", "tinyshakespeare").out
    assert "licence" in text
    assert facts["files"][0]["checksum"] in text
    assert descent("data", "path", "tinyshakespeare").out.strip() == facts["files"][0]["path"]
    assert descent("data", "fetch", "tinyshakespeare", "digits").out.strip() == facts["files"][0]["path"]


def test_data_that_are_not_here_are_not_fetched_by_asking_for_their_path(descent):
    assert "descent data fetch names" in descent("data", "path", "names", code=2).err
    assert "no files of its own" in descent("data", "path", "digits", code=2).err
    assert "not yet: descent data fetch names" in descent("data", "show", "names").out


ENTRY = {
    "id": "gpt-shakespeare-10",
    "what": "tinyshakespeare, characters",
    "metric": "validation loss",
    "value": 1.4712,
    "spread": 0.0031,
    "unit": "nats",
    "published": {"value": 1.4697, "source": "nanoGPT's README"},
    "seeds": [1, 2, 3],
    "minutes": 10.0,
    "flops": 1e15,
    "machine": "2 cores",
    "commit": "abc",
    "date": "2025-01-01",
    "command": "descent train gpt-shakespeare",
    "note": "the whole split",
}


@pytest.fixture
def entries(tmp_path, monkeypatch):
    (tmp_path / "entries").mkdir()
    other = {"id": "lenet-mnist", "published": None, "spread": [1.25, 1.5], "minutes": None}
    for changes in ({}, other):
        entry = {**ENTRY, **changes}
        (tmp_path / "entries" / f"{entry['id']}.json").write_text(json.dumps(entry), encoding="utf-8")
    monkeypatch.setattr(ledger, "folder", lambda: tmp_path / "entries")
    return tmp_path / "entries"


def test_the_ledger_sets_ours_beside_the_published(descent, entries):
    lines = descent("ledger").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["gpt-shakespeare-10", "lenet-mnist"]
    assert "1.4712 ± 0.0031 nats" in lines[1]
    assert "1.4697 nats" in lines[1]
    assert "(1.25 to 1.5) nats" in lines[2]
    assert descent("ledger", "--json").json[0] == ENTRY
    one = descent("ledger", "shakes").out
    assert "lenet" not in one
    assert "nanoGPT's README" in one
    assert "did you mean 'lenet-mnist'" in descent("ledger", "lenet-minst", code=2).err


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"id": "x"}', json.dumps({**ENTRY, "value": "1"}), '{"value": NaN}']
)
def test_a_damaged_ledger_entry_is_named(entries, text):
    (entries / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(CorruptArtifact, match=r"bad\.json"):
        ledger.entries(entries)


def test_the_projects_own_ledger_is_whole():
    for entry in ledger.entries():
        assert entry["unit"] is not None


def test_doctor_measures(descent, monkeypatch):
    monkeypatch.setattr("descent.doctor.SECONDS", 0.01)
    found = descent("doctor", "--json").json
    assert found["versions"]["torch"]
    assert found["speed"]["matrix_gflops"]["fp32"] > 0.1
    assert found["speed"]["matrix_gflops"]["bf16"] > 0.01
    assert found["speed"]["copy_gigabytes_per_second"] > 0.01
    assert found["machine"]["threads"] >= 1
    assert found["disk"]["current"]["free"] > 0
    assert {"digits", "python-docs"} <= set(found["data"]["ready"])
    assert "names" in found["data"]["absent"]


def test_doctor_tells_what_is_wrong_with_the_data(descent, tmp_path, monkeypatch):
    (tmp_path / "data" / "names").mkdir(parents=True)
    (tmp_path / "data" / "names" / "names.txt").write_text("emma\n", encoding="utf-8")
    monkeypatch.setenv("DESCENT_DATA", str(tmp_path / "data"))
    text = descent("doctor", "--quick").out
    assert "names.txt" in text
    assert "GFLOP/s" not in text
    monkeypatch.setenv("DESCENT_DATA", str(tmp_path / "absent"))
    assert "DESCENT_DATA names no folder" in descent("doctor", "--quick").out
