"""From a name, a file and overrides to a recipe; and what is refused on the way (kind, and all at once)."""

from __future__ import annotations

from pathlib import Path

import pytest

from descent.errors import UserError
from descent.recipes import CATALOG, get, resolve
from descent.runs.overrides import override
from descent.runs.recipe import Recipe, read_recipe, recipe_toml, safe_name


@pytest.mark.parametrize("name", CATALOG)
def test_every_recipe_resolves_and_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = get(name)
    assert recipe.name == name
    assert recipe.about == CATALOG[name].about
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe


def refused(*overrides: str, name: str = "gpt") -> str:
    with pytest.raises(UserError) as caught:
        resolve(name, overrides)
    return str(caught.value)


def test_an_unknown_key_names_the_nearest() -> None:
    assert "did you mean optimizer.learning_rate?" in refused("optimizer.learing_rate=0.1")
    assert "did you mean model.depth?" in refused("modle.depth=2")
    assert "did you mean data.path?" in refused("data.paht=book.txt")


def test_an_unknown_recipe_names_the_nearest() -> None:
    assert "did you mean 'gpt'?" in refused(name="gtp")


def test_all_errors_at_once_each_with_its_path() -> None:
    text = refused("model.depth=true", "optimizer.learning_rate=-1", "budget.batch_size=[1]", "seed=x")
    for path in ("model", "optimizer", "budget", "seed"):
        assert path in text
    assert "4 errors" in text


@pytest.mark.parametrize("bad", ["nan", "inf", "-1.0", "0.0", '"1e-3"', "true", "1e999"])
def test_rates_that_are_no_rates(bad: str) -> None:
    assert "learning_rate" in refused(f"optimizer.learning_rate={bad}")


@pytest.mark.parametrize(
    "bad",
    [
        "model.heads=7",
        "model.vocab_size=-1",
        "tokenizer.vocab_size=-1",
        "budget.batch_size=-1",
        "budget.steps=0",
        "model.dropout=1.0",
    ],
)
def test_values_that_cannot_be(bad: str) -> None:
    assert bad.partition("=")[0].rpartition(".")[2] in refused(bad)


def test_python_values_are_taken_as_they_are() -> None:
    recipe = resolve("gpt", {"model.depth": 2, "data.path": "book.txt", "optimizer.learning_rate": 0.01})
    assert (recipe.model.depth, recipe.data.path, recipe.data.source) == (2, "book.txt", None)  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"model\.gpt\.depth|model"):
        resolve("gpt", {"model.depth": "2"})


def test_another_type_starts_afresh() -> None:
    recipe = resolve("gpt", ["schedule.type=cosine", "optimizer.type=adamw"])
    assert (recipe.schedule.type, recipe.optimizer.type) == ("cosine", "adamw")


def test_epochs_take_the_place_of_steps_and_back() -> None:
    assert resolve("gpt", ["budget.epochs=2"]).budget.steps == 0
    assert resolve("mlp-digits", ["budget.steps=5"]).budget.epochs == 0


def test_other_data_bring_other_sizes() -> None:
    filled = resolve("mlp-digits", {"model.inputs": [1, 8, 8], "model.outputs": 10})
    assert override(filled, ["optimizer.learning_rate=0.5"]).model.outputs == 10  # type: ignore[union-attr]
    assert override(filled, ["data.source=mnist"]).model.outputs == 0  # type: ignore[union-attr]
    assert override(filled, ["data.source=mnist", "model.outputs=10"]).model.outputs == 10  # type: ignore[union-attr]


def test_the_order_of_options_does_not_matter() -> None:
    mine = ["data.path=t.csv", "data.target=kind", "data.type=table", "model.hidden=[9]", "model.type=mlp"]
    recipe = resolve("linear-diabetes", mine)
    assert recipe == resolve("linear-diabetes", mine[::-1])
    assert (recipe.data.path, recipe.data.source, recipe.model.hidden) == ("t.csv", None, (9,))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "changes", "size"),
    [
        ("gpt", ["tokenizer.kind=char"], 0),
        ("gpt", ["tokenizer.kind=byte"], 0),
        ("bert-chinese", ["tokenizer.kind=bpe"], 0),
        ("gpt", ["tokenizer.kind=char", "tokenizer.vocab_size=300"], 300),
        ("gpt", ["tokenizer.kind=unigram"], 1024),
        ("gpt", ["tokenizer.kind=bpe"], 1024),
        ("bert-chinese", ["tokenizer.kind=char"], 5000),
    ],
)
def test_as_many_tokens_as_the_kind_of_tokenizer_has(name: str, changes: list[str], size: int) -> None:
    for given in (changes, changes[::-1]):
        tokenizer = resolve(name, given).tokenizer
        assert tokenizer is not None
        assert tokenizer.vocab_size == size


def test_what_is_said_of_a_recipes_data_is_not_said_of_other_data() -> None:
    assert resolve("gpt", ["data.path=book.txt"]).about == ""
    assert resolve("gpt", ["data.path=book.txt", "about=my book"]).about == "my book"
    assert resolve("gpt", ["budget.steps=5"]).about


def test_a_changed_recipe_claims_nothing() -> None:
    claim = {"metric": "loss", "split": "validation", "value": 1.0, "minutes": 1.0, "machine": "here"}
    recipe = get("gpt").replace(claim=claim)
    assert override(recipe, []).claim is not None
    assert override(recipe, ["seed=3"]).claim is None


def test_parts_that_do_not_go_together() -> None:
    assert "do not go together" in refused("data.type=images", "data.source=digits")


@pytest.mark.parametrize("name", ["lstm-multi30k", "lstm-dates-luong"])
def test_a_recurrent_network_cannot_tell_packed_pairs_apart(name: str) -> None:
    assert "data.packing must be padded" in refused("data.packing=documents", name=name)
    assert resolve("transformer-multi30k").data.packing == "documents"  # type: ignore[union-attr]


BERTS = ("bert", "bert-sst2", "bert-wnut17", "bert-cmrc", "bert-cranfield", "bert-similar")


@pytest.mark.parametrize("name", [*BERTS, "gpt", "llama", "gpt2-124m"])
def test_rows_that_are_longer_than_the_context(name: str) -> None:
    sizes = ["model.context=300", "data.length=300"]
    assert resolve(name, sizes).model.context == 300  # type: ignore[union-attr]
    said = "data.length=301 is longer than model.context=300"
    assert said in refused(*sizes, "data.length=301", name=name)


@pytest.mark.parametrize("name", ["t5", "t5-tasks-en", "transformer-multi30k", "lstm-multi30k", "lstm"])
def test_rows_of_models_without_a_context_may_be_long(name: str) -> None:
    assert resolve(name, ["data.length=5000"]).data.length == 5000  # type: ignore[union-attr]


def test_the_context_of_weights_is_not_yet_known() -> None:
    from_weights = ["transfer.weights=somewhere", "data.length=1000"]
    assert resolve("bert-sst2", from_weights).data.length == 1000  # type: ignore[union-attr]
    said = "data.length=1000 is longer than model.context=64"
    assert said in refused(*from_weights, "model.context=64", name="bert-sst2")


class TestFiles:
    def test_a_file_with_a_base_says_only_what_differs(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text('base = "gpt"\n[data]\npath = "book.txt"\n[model]\ndepth = 2\n', encoding="utf-8")
        recipe = resolve(path)
        assert (recipe.data.path, recipe.data.source) == ("book.txt", None)
        assert (recipe.name, recipe.model.depth) == ("mine", 2)  # type: ignore[union-attr]
        second = tmp_path / "yours.toml"
        second.write_text('base = "mine.toml"\nseed = 9\n', encoding="utf-8")
        assert (resolve(second).seed, resolve(second).model.depth) == (9, 2)  # type: ignore[union-attr]

    def test_a_file_with_another_kind_of_tokenizer_takes_its_size(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text('base = "gpt"\n[tokenizer]\nkind = "char"\n', encoding="utf-8")
        assert resolve(path).tokenizer == get("gpt-poetry").tokenizer
        path.write_text('base = "gpt"\n[tokenizer]\nkind = "char"\nvocab_size = 50\n', encoding="utf-8")
        assert resolve(path).tokenizer.vocab_size == 50  # type: ignore[union-attr]

    def test_a_base_that_is_its_own_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "loop.toml"
        path.write_text('base = "loop.toml"\n', encoding="utf-8")
        with pytest.raises(UserError, match="base"):
            resolve(path)

    def test_a_missing_file_names_the_nearest(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text('base = "gpt"\n', encoding="utf-8")
        with pytest.raises(UserError, match=r"mine\.toml"):
            resolve(tmp_path / "mime.toml")


@pytest.mark.parametrize(
    "name",
    ["../../etc", "/abs", "a/b", "CON", "con.txt", "a\0b", "x" * 65, ".hidden", "-dash", "", "a b", "山"],
)
def test_names_that_are_no_folder(name: str) -> None:
    assert not safe_name(name)
    with pytest.raises(UserError):
        Recipe.read({**get("gpt").table(), "name": name})


def test_names_that_are() -> None:
    assert all(safe_name(name) for name in ("gpt", "Run-1.2_b", "x" * 64, "0"))
