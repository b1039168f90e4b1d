"""The strict base of every configuration: what it refuses, and that it says so in words of use."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, model_validator

from descent.config import MAX_DEPTH, Config, Field, Items, field_types, parse_override, parse_toml
from descent.errors import UserError


class Budget(Config):
    steps: int = Field(default=10, gt=0)
    batch_size: int = Field(default=8, gt=0)


class MLP(Config):
    type: Literal["mlp"] = "mlp"
    hidden: Items[int] = (32,)
    activation: Literal["relu", "gelu"] = "relu"


class GPT(Config):
    type: Literal["gpt"] = "gpt"
    dim: int = 32
    heads: int = 4
    vocab_size: int = Field(default=65, gt=0)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dim ({self.dim})")
        return self


class Recipe(Config):
    name: str
    learning_rate: float = Field(default=1e-3, ge=0)
    seed: int = 1
    compile: bool = False
    threads: int | Literal["auto"] = "auto"
    path: str | None = None
    paths: str | Items[str] = ()
    budget: Budget = Budget()
    model: Annotated[MLP | GPT, Field(discriminator="type")] = MLP()
    teacher: Annotated[MLP | GPT, Field(discriminator="type")] | None = None


def complaints(values: Any) -> list[str]:
    """The lines of the error a recipe makes, the first without its file's name."""
    with pytest.raises(UserError) as caught:
        Recipe.read(values, where="mine.toml")
    first, *others = str(caught.value).splitlines()
    assert first.startswith("mine.toml: ")
    assert caught.value.exit_code == 2
    return [first.removeprefix("mine.toml: "), *(line.strip() for line in others)]


def reason(**values: Any) -> str:
    return complaints({"name": "a", **values})[1]


def test_a_good_recipe_is_read_frozen_and_written_back():
    values = {"name": "a", "model": {"type": "gpt", "dim": 16}, "paths": ["b", "c"], "seed": 3}
    recipe = Recipe.read(values)
    assert recipe.model == GPT(dim=16)
    assert recipe.paths == ("b", "c")
    assert Recipe.read(recipe.table()) == recipe
    assert "path" not in recipe.table()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 4  # type: ignore[misc]


def test_replace_validates_the_copy():
    recipe = Recipe(name="a").replace(seed=5, model=GPT(dim=8, heads=2))
    assert (recipe.seed, recipe.model) == (5, GPT(dim=8, heads=2))
    with pytest.raises(UserError, match=r"seed: should be a valid integer, got 'x'"):
        recipe.replace(seed="x")
    with pytest.raises(UserError, match="no such option; did you mean 'seed'"):
        recipe.replace(sed=5)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learing_rate": 1}, "learing_rate: no such option; did you mean 'learning_rate'?"),
        ({"budget": {"step": 1}}, "budget.step: no such option; did you mean 'steps'?"),
        ({"model": {"type": "gpt", "head": 2}}, "model.head: no such option; did you mean 'heads'?"),
        ({"teacher": {"type": "gpt", "head": 2}}, "teacher.head: no such option; did you mean 'heads'?"),
        ({"model": {"type": "mlp", "heads": 2}}, "model.heads: no such option"),
        ({"batch_size": 4}, "batch_size: no such option; did you mean 'budget.batch_size'?"),
        ({"zzz": 1}, "zzz: no such option"),
        ({"a\nb": 1}, r"'a\nb': no such option"),
        ({"": 1}, "'': no such option"),
    ],
)
def test_an_unknown_key_gets_the_nearest_name(values: dict[str, Any], said: str):
    assert reason(**values).startswith(said)


def test_names_of_another_member_of_a_union_are_not_suggested():
    assert "model.hidden" not in reason(model={"type": "gpt", "hiden": [3]})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": "1e-3"}, "learning_rate: should be a valid number, got '1e-3'"),
        ({"seed": True}, "seed: should be a valid integer, got True"),
        ({"seed": 1.0}, "seed: should be a valid integer, got 1.0"),
        ({"name": 3}, "name: should be a valid string, got 3"),
        ({"name": ["a"]}, "name: should be a valid string, got ['a']"),
        ({"compile": 1}, "compile: should be a valid boolean, got 1"),
        ({"budget": 3}, "budget: should be a table of options, got 3"),
        ({"model": 3}, "model: should be a table of options, got 3"),
        ({"model": {"type": "mlp", "hidden": 5}}, "model.hidden: should be a list, got 5"),
        (
            {"model": {"type": "mlp", "hidden": [1, "2"]}},
            "model.hidden.1: should be a valid integer, got '2'",
        ),
        ({"model": {"dim": 3}}, "model: needs a type"),
        (
            {"model": {"type": "gtp"}},
            "model: no such type as 'gtp', expected one of 'mlp', 'gpt'; did you mean 'gpt'?",
        ),
        ({"threads": 1.5}, "threads: should be a valid integer or should be 'auto', got 1.5"),
        (
            {"model": {"type": "mlp", "activation": "tanh"}},
            "model.activation: should be 'relu' or 'gelu', got 'tanh'",
        ),
    ],
)
def test_a_wrong_type_is_refused_in_plain_words(values: dict[str, Any], said: str):
    assert reason(**values) == said


def test_everything_wrong_is_reported_at_once_each_with_its_path():
    wrong = {
        "learning_rate": "1e-3",
        "seed": True,
        "budget": {"steps": [5], "batch_size": 0},
        "model": {"type": "mlp", "hidden": [1, "2", 3.0]},
        "colour": "red",
    }
    lines = complaints(wrong)
    assert lines[0] == "8 errors in the configuration"
    assert [line.split(":")[0] for line in lines[1:]] == [
        *("name", "learning_rate", "seed", "budget.steps", "budget.batch_size"),
        *("model.hidden.1", "model.hidden.2", "colour"),
    ]
    assert "name: is required" in lines


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1e-9, -1])
def test_no_learning_rate_is_negative_or_no_number(value: float):
    assert reason(learning_rate=value).startswith("learning_rate: should be ")
    with pytest.raises(ValidationError):
        Recipe(name="a", learning_rate=value)


def test_values_that_do_not_fit_each_other_name_the_table_and_both_values():
    assert reason(model={"type": "gpt", "dim": 30}) == "model: heads (4) must divide dim (30)"
    assert (
        reason(model={"type": "gpt", "vocab_size": 0}) == "model.vocab_size: should be greater than 0, got 0"
    )
    assert reason(budget={"batch_size": 0}) == "budget.batch_size: should be greater than 0, got 0"


@pytest.mark.parametrize("values", [[1], 3, None, "name", [["name", "a"]]])
def test_what_is_no_table_is_refused(values: Any):
    with pytest.raises(UserError, match=r"^x.json: should be a table of options"):
        Recipe.read(values, where="x.json")


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, 10**400, 1 << 100_000], ids=["over", "under", "wide", "unprintable"]
)
@pytest.mark.parametrize("key", ["seed", "learning_rate", "name"])
def test_an_integer_over_64_bits_is_refused(key: str, value: int):
    with pytest.raises(UserError, match=f"{key}: an integer that does not fit in 64 bits"):
        Recipe.read({"name": "a", key: value})


def test_the_largest_integers_are_read():
    assert Recipe.read({"name": "a", "seed": 2**63 - 1}).seed == 2**63 - 1
    assert Recipe.read({"name": "a", "seed": -(2**63)}).seed == -(2**63)


def test_half_a_character_is_refused_for_no_file_could_hold_it():
    with pytest.raises(UserError, match=r"paths.1: text that is not valid Unicode\n.*udc80"):
        Recipe.read({"name": "a", "paths": ["ok", "\udc80"]})


def _nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("depth", [MAX_DEPTH, 100_000])
@pytest.mark.parametrize(
    "wrap", [lambda v: {"a": v}, lambda v: [v], lambda v: (v,)], ids=["dict", "list", "tuple"]
)
def test_deep_nesting_is_refused(depth: int, wrap: Any):
    with pytest.raises(UserError, match=f"nested deeper than {MAX_DEPTH} levels"):
        Recipe.read({"name": "a", "model": _nested(depth, wrap)})


def test_nesting_up_to_the_limit_is_left_to_the_schema():
    assert reason(name=_nested(MAX_DEPTH - 2, lambda v: [v])).startswith("name: should be a valid string")


HOSTILE = {
    "lists": "x = " + "[" * 100_000,
    "closed lists": "x = " + "[" * 100_000 + "]" * 100_000,
    "inline tables": "x = " + "{a=" * 100_000,
    "dotted key": "a." * 100_000 + "b = 1",
    "dotted key in a table": "x = {" + "a . " * 100_000 + "b = 1}",
    "dotted header": "[" + "a." * 100_000 + "b]",
    "quoted key": '"a".' * 100_000 + "b = 1",
    "key of quotes": '"\\"".' * 100_000 + "b = 1",
    "digits": "x = " + "9" * 100_000,
    "bare text": "a" * 1_000_000,
    "quotes": "'\"" * 500_000,
    "spaces": "a." + " " * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_toml_is_refused_soon(text: str):
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^mine\.toml"):
        parse_toml(text, "mine.toml")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        "a.b.c = 1",
        ".".join("a" * MAX_DEPTH) + " = 1",
        f'prompt = "{"." * 1000}"',
        f'prompt = "{"Wait. " * 1000}"',
        "# " + "=" * 1000,
    ],
)
def test_ordinary_toml_is_read(text: str):
    assert parse_toml(text, "mine.toml") or text.startswith("#")


def test_an_error_in_toml_says_where():
    with pytest.raises(UserError, match=r"^mine\.toml is not valid TOML: .*line 2"):
        parse_toml("a = 1\nb = = 2\n", "mine.toml")


def test_field_types_follow_the_type_a_table_names():
    assert field_types(Recipe, {"model": {"type": "gpt"}})["model.heads"] is int
    assert "model.hidden" not in field_types(Recipe, {"model": {"type": "gpt"}})
    assert {"model.hidden", "model.heads"} <= field_types(Recipe).keys()
    assert field_types(Recipe)["budget.steps"] is int


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("learning_rate=1e-3", "learning_rate", 1e-3),
        ("budget.steps=20", "budget.steps", 20),
        (" budget.steps =20", "budget.steps", 20),
        ("compile=true", "compile", True),
        ("name=3", "name", "3"),
        ("name=true", "name", "true"),
        ("name=[1]", "name", "[1]"),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        ('name="quoted"', "name", "quoted"),
        ("path=none", "path", None),
        ("path='none'", "path", "none"),
        ("path=数据/唐诗.txt", "path", "数据/唐诗.txt"),
        ("name=none", "name", "none"),
        ("threads=4", "threads", 4),
        ("threads=auto", "threads", "auto"),
        ("paths=book.txt", "paths", "book.txt"),
        ("paths=['a', \"b\"]", "paths", ["a", "b"]),
        ("model.hidden=[1, 2]", "model.hidden", [1, 2]),
        ("model={type = 'gpt'}", "model", {"type": "gpt"}),
        ("budget.steps=ten", "budget.steps", "ten"),
        ("budget.steps=3\nseed=4", "budget.steps", "3\nseed=4"),
    ],
)
def test_an_override_is_typed_by_the_schema(text: str, key: str, value: Any):
    assert parse_override(Recipe, {}, text) == (key, value)
    assert type(parse_override(Recipe, {}, text)[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth", "'depth' is not of the form key=value"),
        ("rate=1", "no such option: rate"),
        ("learing_rate=1", "did you mean learning_rate?"),
        ("steps=1", "did you mean budget.steps?"),
        ("budget.step=1", "did you mean budget.steps?"),
        ("=1", "no such option: "),
    ],
)
def test_a_wrong_override_is_explained(text: str, said: str):
    with pytest.raises(UserError) as caught:
        parse_override(Recipe, {}, text)
    assert said in str(caught.value)


def test_options_of_another_type_are_unknown():
    with pytest.raises(UserError, match=r"no such option: model\.heads"):
        parse_override(Recipe, {"model": {"type": "mlp"}}, "model.heads=2")
    assert parse_override(Recipe, {"model": {"type": "gpt"}}, "model.heads=2") == ("model.heads", 2)


@given(st.text(st.characters()))
def test_no_text_makes_another_error_than_one_for_the_user(text: str):
    for override in (text, f"seed={text}", f"paths={text}", f"model={text}", f"threads={text}"):
        try:
            key, value = parse_override(Recipe, {}, override)
            Recipe.read({"name": "a", key: value})
        except UserError as error:
            str(error).encode()


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text[:1] not in ("'", '"')))
def test_a_text_option_keeps_any_unquoted_text_as_it_stands(text: str):
    assert parse_override(Recipe, {}, f"name={text}") == ("name", text)


@given(st.integers(-(2**63), 2**63 - 1), st.floats(0, allow_infinity=False), st.booleans())
def test_numbers_come_back_as_they_were_written(seed: int, rate: float, compiled: bool):
    texts = [f"seed={seed}", f"learning_rate={rate!r}", f"compile={str(compiled).lower()}"]
    recipe = Recipe.read({"name": "a", **dict(parse_override(Recipe, {}, text) for text in texts)})
    assert (recipe.seed, recipe.learning_rate, recipe.compile) == (seed, rate, compiled)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["name", "seed", "model", "budget", "paths", "teacher", "x"]), VALUES))
def test_any_tables_are_read_or_refused_with_one_message(values: dict[str, Any]):
    try:
        Recipe.read(values)
    except UserError as error:
        str(error).encode()
