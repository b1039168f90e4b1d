"""Named recipes: each a function that returns a complete `Recipe`, and the way from a name to one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descent.errors import UserError, nearest, unknown

if TYPE_CHECKING:
    from descent.runs.recipe import Recipe


@dataclass(frozen=True)
class Entry:
    """Where a recipe is, and what it is for (known without importing anything heavy)."""

    about: str
    module: str
    function: str


CATALOG: dict[str, Entry] = {
    "linear-housing": Entry("linear regression on California housing prices", "tables", "linear_housing"),
    "linear-diabetes": Entry("linear regression on embedded data (no download)", "tables", "linear_diabetes"),
    "mlp-digits": Entry("an MLP on 8 x 8 digits (embedded, no download)", "images", "mlp_digits"),
    "mlp-mnist": Entry("an MLP on MNIST", "images", "mlp_mnist"),
    "lenet-digits": Entry("LeNet-5 on 8 x 8 digits (embedded, no download)", "images", "lenet_digits"),
    "lenet-mnist": Entry(
        "LeNet-5 with more maps on MNIST, shifted and turned a little", "images", "lenet_mnist"
    ),
    "airbench-cifar": Entry(
        "a fast small network on 20,000 CIFAR-10 images, 4 minutes", "pictures", "airbench_cifar"
    ),
    "airbench-cifar-long": Entry(
        "cifar10-airbench's network on 20,000 CIFAR-10 images, longer", "pictures", "airbench_cifar_long"
    ),
    "resnet-cifar": Entry("ResNet-20 on 20,000 CIFAR-10 images", "pictures", "resnet_cifar"),
    "alexnet-cifar": Entry("AlexNet for 32 x 32 on 20,000 CIFAR-10 images", "pictures", "alexnet_cifar"),
    "vit-cifar": Entry("a compact ViT on 20,000 CIFAR-10 images", "pictures", "vit_cifar"),
    "lstm": Entry(
        "an LSTM on Python's own documentation (embedded, no download)",
        "text",
        "lstm",
    ),
    "lstm-shakespeare": Entry(
        "a character LSTM on tinyshakespeare, at the training FLOPs of gpt-shakespeare",
        "text",
        "lstm_shakespeare",
    ),
    "recall-rnn": Entry("delayed recall by Elman's network (generated data)", "memory", "recall_rnn"),
    "recall-lstm": Entry("delayed recall by an LSTM (generated data)", "memory", "recall_lstm"),
    "recall-gru": Entry("delayed recall by a GRU (generated data)", "memory", "recall_gru"),
    "recall-gpt": Entry("delayed recall by a GPT block (generated data)", "memory", "recall_gpt"),
    "adding-lstm": Entry(
        "the adding problem by an LSTM (generated data)",
        "memory",
        "adding_lstm",
    ),
    "copy-lstm": Entry(
        "copying after a gap by an LSTM (generated data)",
        "memory",
        "copy_lstm",
    ),
    "parity-lstm": Entry(
        "running parity by an LSTM (generated data)",
        "memory",
        "parity_lstm",
    ),
    "dyck-lstm": Entry(
        "balanced brackets by an LSTM (generated data)",
        "memory",
        "dyck_lstm",
    ),
    "lstm-etth1": Entry(
        "an LSTM that forecasts transformer loads and temperature",
        "series",
        "lstm_etth1",
    ),
    "dlinear-etth1": Entry(
        "the linear forecaster DLinear on the same series",
        "series",
        "dlinear_etth1",
    ),
    "lstm-fsdd": Entry(
        "an LSTM that recognises spoken digits",
        "sound",
        "lstm_fsdd",
    ),
    "cnn-fsdd": Entry(
        "a small convolutional network that recognises spoken digits",
        "sound",
        "cnn_fsdd",
    ),
    "lstm-fsdd-ctc": Entry(
        "an LSTM that hears strings of spoken digits, by CTC",
        "ctc",
        "lstm_fsdd_ctc",
    ),
    "lstm-stock": Entry(
        "an LSTM that forecasts a share's price with intervals (embedded, no download)",
        "series",
        "lstm_stock",
    ),
    "lstm-chorales": Entry(
        "an LSTM on the frames of Bach's chorales",
        "music",
        "lstm_chorales",
    ),
    "gru-chorales": Entry(
        "a GRU on the frames of Bach's chorales",
        "music",
        "gru_chorales",
    ),
    "lstm-chorales-voices": Entry(
        "an LSTM that writes chorales in four voices",
        "music",
        "lstm_chorales_voices",
    ),
    "lstm-dates-bahdanau": Entry(
        "an LSTM that reads written dates, with Bahdanau's attention (generated, no download)",
        "pairs",
        "lstm_dates_bahdanau",
    ),
    "lstm-dates-luong": Entry(
        "an LSTM that reads written dates, with Luong's attention (generated, no download)",
        "pairs",
        "lstm_dates_luong",
    ),
    "lstm-dates-none": Entry(
        "an LSTM that reads written dates, without attention (generated, no download)",
        "pairs",
        "lstm_dates_none",
    ),
    "transformer-dates": Entry(
        "a Transformer that reads written dates (generated, no download)",
        "pairs",
        "transformer_dates",
    ),
    "bert-sst2": Entry("a small BERT that tells good film reviews from bad ones", "sentences", "bert_sst2"),
    "bert-hotel": Entry(
        "a small BERT that tells good Chinese reviews of hotels from bad ones", "sentences", "bert_hotel"
    ),
    "bert-sick": Entry("a small BERT on what follows from an English sentence", "sentences", "bert_sick"),
    "bert-ocnli": Entry("a small BERT on what follows from a Chinese sentence", "sentences", "bert_ocnli"),
    "bert-wnut17": Entry("a small BERT that finds rare names in messages", "sentences", "bert_wnut17"),
    "bert-cmrc": Entry(
        "a BERT that finds the answers to Chinese questions (CMRC 2018 and XQuAD)",
        "questions",
        "bert_cmrc",
    ),
    "bert-xquad": Entry(
        "a BERT that finds the answers to English questions (XQuAD)",
        "questions",
        "bert_xquad",
    ),
    "bert-cranfield": Entry(
        "a BERT that ranks the abstracts BM25 finds for questions on aerodynamics (Cranfield)",
        "questions",
        "bert_cranfield",
    ),
    "bert-similar": Entry(
        "a small BERT whose vectors tell which English sentences mean alike", "embeddings", "bert_similar"
    ),
    "gpt": Entry(
        "a GPT on Python's own documentation (embedded, no download)",
        "text",
        "gpt",
    ),
    "gpt-shakespeare": Entry(
        "a character GPT on tinyshakespeare, 10 minutes",
        "text",
        "gpt_shakespeare",
    ),
    "gpt-shakespeare-short": Entry(
        "a character GPT on tinyshakespeare, 1.5 minutes",
        "text",
        "gpt_shakespeare_short",
    ),
    "gpt-shakespeare-long": Entry(
        "a character GPT on tinyshakespeare, 13 minutes",
        "text",
        "gpt_shakespeare_long",
    ),
    "gpt-poetry": Entry(
        "a GPT that writes Tang poems",
        "text",
        "gpt_poetry",
    ),
    "gpt-names": Entry(
        "a small GPT that makes up first names",
        "text",
        "gpt_names",
    ),
    "transformer-multi30k": Entry(
        "a Transformer that translates German into English (Multi30k, 29,000 pairs)",
        "translation",
        "transformer_multi30k",
    ),
    "lstm-multi30k": Entry(
        "an LSTM with attention that translates German into English (Multi30k, 29,000 pairs)",
        "translation",
        "lstm_multi30k",
    ),
    "llama": Entry(
        "a Llama on Python's own documentation (embedded, no download)",
        "text",
        "llama",
    ),
    "bert-english": Entry(
        "a small modern BERT pretrained on English texts",
        "pretraining",
        "bert_english",
    ),
    "bert-chinese": Entry(
        "a small modern BERT pretrained on Chinese texts",
        "pretraining",
        "bert_chinese",
    ),
    "bert": Entry(
        "a BERT that finds hidden words in Python's own documentation (embedded, no download)",
        "attending",
        "bert",
    ),
    "t5": Entry(
        "a T5 that writes spans cut out of Python's own documentation (embedded, no download)",
        "attending",
        "t5",
    ),
    "t5-tasks-en": Entry("a T5 for five English tasks at once, each as text to text", "tasks", "t5_tasks_en"),
    "t5-tasks-zh": Entry(
        "a T5 for three Chinese tasks at once, each as text to text", "tasks", "t5_tasks_zh"
    ),
    "gpt2-124m": Entry(
        "GPT-2 at its published size, for benchmarks",
        "text",
        "gpt2_124m",
    ),
}


def get(name: str) -> Recipe:
    """The recipe of that name, or a `UserError` naming the nearest."""
    if name not in CATALOG:
        raise unknown("recipe", name, CATALOG)
    from descent.recipes.claims import CLAIMS

    entry = CATALOG[name]
    recipe: Recipe = getattr(importlib.import_module(f"descent.recipes.{entry.module}"), entry.function)()
    return recipe.replace(claim=CLAIMS[name].table()) if name in CLAIMS else recipe


def resolve(where: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Recipe:
    """The recipe that a name or a TOML file and some overrides describe.

    Args:
        where: a name from `CATALOG`, or a TOML file: a whole recipe, or one with `base = "<name>"` (or
            a path beside it) and only what differs.
        overrides: `key=value` strings, or dotted keys with values.
    """
    from descent.runs.overrides import apply

    return apply(_tables(where), overrides, str(where))


def _tables(where: str | Path, depth: int = 0) -> dict[str, Any]:
    from descent.config import read_toml
    from descent.runs.overrides import exclusive, merge, renew_sizes

    path = Path(where)
    is_file = path.suffix == ".toml" or (path.is_file() and str(where) not in CATALOG)
    if not is_file:
        return get(str(where)).table()
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")])
        raise UserError(f"{path} is not there", hint=f"did you mean {near}?" if near else None)
    tables = read_toml(path)
    base = tables.pop("base", None)
    if base is None:
        return tables
    if not isinstance(base, str) or depth > 8:
        raise UserError(f"{path}: base must name a recipe or a TOML file", got=base)
    beside = path.parent / base
    found = _tables(beside if base.endswith(".toml") else base, depth + 1)
    return renew_sizes(merge(found, {"name": path.stem, **exclusive(tables, found), "claim": None}), tables)
