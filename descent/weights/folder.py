"""A folder in the Hugging Face layout, read without trusting it.

    config.json                    what the network is: `model_type` picks a row of a table here, nothing more
    model.safetensors              its weights, or several files with model.safetensors.index.json
    tokenizer.json                 its tokenizer, if it is a language model; of old BERTs vocab.txt
    generation_config.json         how its authors sample from it, if they say so
    chat_template.jinja            how it was taught to converse, if it was
    preprocessor_config.json       how its authors prepare a picture, if it classifies images

Nothing in a folder selects code, nothing is unpickled, and no network call is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from descent.errors import UserError
from descent.models import MODELS, config_class
from descent.text.vocabulary import VOCABULARY
from descent.weights import preprocessor, published, safetensors_file, shards
from descent.weights.architectures import ARCHITECTURES, Architecture
from descent.weights.chat import read_chat
from descent.weights.classes import labels_from
from descent.weights.json_file import read_json
from descent.weights.pretrained import Pretrained
from descent.weights.shards import INDEX, WEIGHTS

CONFIG, TOKENIZER, GENERATION = "config.json", "tokenizer.json", "generation_config.json"
OWN = "descent"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    return (path / CONFIG).is_file()


def read_folder(path: Path | str, *, allow_nonfinite: bool = False) -> Pretrained:
    """Reads a folder in the Hugging Face layout: one of `ARCHITECTURES`, timm's, or anything `export` wrote.

    Args:
        path: the folder.
        allow_nonfinite: take weights with NaN or infinite values too.

    Raises:
        UserError: not such a folder, an architecture that is not known, only pickles, weights that do not fit
            (those of our own exports are compared when they are loaded into the model).
        CorruptArtifact: a file that is not whole.
    """
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} holds no {CONFIG}", hint="give a folder in the Hugging Face layout")
    table = read_json(folder / CONFIG)
    where = str(folder / CONFIG)
    if "auto_map" in table:
        raise UserError(
            f"{where}: auto_map asks to run code that came with the weights; that is never done",
            hint="take a checkpoint of a known architecture",
        )
    if published.is_timm(table):
        config = published.config_from(table, where)
        return published.read_timm(table, config, _tensors(folder, allow_nonfinite), str(folder))
    pictures = read_json(folder / preprocessor.FILE) if (folder / preprocessor.FILE).is_file() else {}
    row = None if table.get("model_type") == OWN else _row(table, where)
    config = _own_config(table, where) if row is None else _config(row, table, pictures, folder)
    tensors = _tensors(folder, allow_nonfinite)
    config = row.completed(config, table, tensors) if row and row.completed else config
    state = tensors if row is None else row.state_from(tensors, config, str(folder))
    files = (TOKENIZER, VOCABULARY) if table.get("model_type") == "bert" else (TOKENIZER,)
    tokenizer = next((folder / file for file in files if (folder / file).is_file()), None)
    extra = table.get("descent", {})
    extra = extra if isinstance(extra, dict) else {}
    extra = {**row.use(table), **extra} if row is not None and row.use is not None else extra
    return Pretrained(
        config,
        state,
        tokenizer,
        _generation(folder),
        _of_images(extra, table, pictures, config, folder) if row is not None and row.images else extra,
        None if tokenizer is None else read_chat(folder),
    )


def _own_config(table: Mapping[str, Any], where: str) -> Any:
    model = table.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("type"), str):
        raise UserError(f"{where}: model: expected a table with a type, as `descent export` writes it")
    return config_class(model["type"]).read(model, where=where)


def _row(table: Mapping[str, Any], where: str) -> Architecture:
    kind = table.get("model_type")
    row = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    classes = table.get("architectures") or (row.classes[:1] if row else ())
    if row is None or not isinstance(classes, (list, tuple)) or any(c not in row.classes for c in classes):
        known = [f"{name} with {row.classes[0]}" for name, row in ARCHITECTURES.items()]
        raise UserError(
            f"{where}: this architecture is not known",
            got=(kind, classes),
            expected=f"model_type {', '.join(known)}, or {OWN} with one of " + ", ".join(MODELS),
        )
    return row


def _config(row: Architecture, table: Mapping[str, Any], pictures: Mapping[str, Any], folder: Path) -> Any:
    """The row's configuration; where it leaves the size of images open, the preprocessor's."""
    where = str(folder / CONFIG)
    if row.images and "image_size" not in table and pictures:
        size, _ = preprocessor.size_and_fit(pictures, str(folder / preprocessor.FILE))
        return row.config_from({**table, "image_size": list(size)}, where)
    return row.config_from(table, where)


def _of_images(
    own: Mapping[str, Any], table: Mapping[str, Any], pictures: Mapping[str, Any], config: Any, folder: Path
) -> dict[str, Any]:
    """What `export` noted, if the classes are still those; else what the other files say."""
    labels, held = labels_from(table), own.get("labels")
    outputs = 2 if own.get("loss") == "binary" else config.outputs
    same = held is None or (isinstance(held, list) and len(held) == outputs)
    if own and same and (labels is None or list(labels) == held):
        return dict(own)
    named = {} if labels is None else {"labels": list(labels)}
    found: dict[str, Any] = {**named, "loss": "cross_entropy"}
    if pictures:
        where = str(folder / preprocessor.FILE)
        found["preparation"] = preprocessor.preparation_from(pictures, config.inputs, labels, where)
    return found


def _tensors(folder: Path, allow_nonfinite: bool) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return safetensors_file.read(folder / WEIGHTS, allow_nonfinite=allow_nonfinite)
    if not (folder / INDEX).is_file():
        _no_weights(folder)
    return shards.read(folder, allow_nonfinite=allow_nonfinite)


def _no_weights(folder: Path) -> NoReturn:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} has its weights only as a pickle ({pickles[0]}), which can run code when it is opened",
            expected=WEIGHTS,
            hint="convert it where you trust it: load it with the library that wrote it and save it as "
            "safetensors (transformers: model.save_pretrained(folder))",
        )
    raise UserError(f"{folder} holds no weights", expected=f"{WEIGHTS} or {INDEX}")


def _generation(folder: Path) -> dict[str, Any]:
    """The recommended settings, where they are of the right type; greedy unless the file says do_sample.

    Of words that are forbidden those of one token are read.
    """
    if not (folder / GENERATION).is_file():
        return {}
    table = read_json(folder / GENERATION)
    found: dict[str, Any] = {}
    if table.get("do_sample") is True:
        found = {name: table[name] for name in _SETTINGS if type(table.get(name)) in (int, float)}
        found = {name: value if name == "top_k" else float(value) for name, value in found.items()}
    stops = table.get("eos_token_id")
    stops = stops if isinstance(stops, list) else [stops]
    if all(type(stop) is int and stop >= 0 for stop in stops):
        found["stop_ids"] = tuple(stops)
    if banned := _forbidden(table.get("bad_words_ids"), stops):
        found["forbidden"] = banned
    return found


def _forbidden(words: Any, stops: list[Any]) -> tuple[int, ...]:
    """The words that may not be written, as far as they are one token and do not end the text."""
    words = words if isinstance(words, list) else []
    alone = [word[0] for word in words if isinstance(word, list) and len(word) == 1]
    ids = {token for token in alone if type(token) is int and token >= 0}
    return tuple(sorted(ids.difference(stop for stop in stops if type(stop) is int)))
