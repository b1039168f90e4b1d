"""`descent explain` of a Transformer over text: attention, hidden words, the logit lens, attribution."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from descent.cli.places import split_example
from descent.cli.terminal import note, print_json, print_table, print_text
from descent.errors import UserError
from descent.explain.names import TEXTS

if TYPE_CHECKING:
    from descent.explain.attention_text import TextAttention
    from descent.explain.text_answer import Answer
    from descent.explain.text_attribution import TokenMethod
    from descent.runs.loaded import Loaded

__all__ = ["AskedText", "View", "explain_text", "list_text_layers", "reads_text"]

View = Literal["grid", "map", "lines"]
MODELS = ("gpt", "llama", "bert", "t5", "transformer")
MOST_PRINTED = 2_000_000
"""Weights in JSON."""


@dataclass(frozen=True)
class AskedText:
    """What the command line asks of a text.

    Attributes:
        words: as they were typed: the text.
        text: in place of it.
        layer, heads, rows, target, second, top, view: as the options say.
    """

    method: str
    words: Sequence[str] = ()
    text: str | None = None
    second: str | None = None
    target: str | None = None
    layer: str | None = None
    heads: Sequence[int] = ()
    rows: Sequence[int] = ()
    top: int | None = None
    view: View | None = None

    @property
    def given(self) -> str:
        """The text.

        Raises:
            UserError: there is none, or more than one.
        """
        texts = [*self.words, *([] if self.text is None else [self.text])]
        if len(texts) != 1 or (self.text is None and split_example(texts[0])):
            raise UserError("one text is explained at a time", got=texts, expected="the text, in quotes")
        return texts[0]


def reads_text(kind: str, method: str | None, words: Sequence[str], text: str | None) -> bool:
    """Whether a view of a text is meant.

    Args:
        kind: of the model, the `type` of its configuration.
        method: as typed; None where none was.
        words, text: what was typed to explain. The saliency of a language model over an example of its data,
            or over `--text`, is a view of a sequence.
    """
    if kind not in MODELS or (method is not None and method not in TEXTS):
        return False
    typed = len(words) > 0 and not split_example(words[0])
    return method != "saliency" or typed or (text is not None and kind not in ("gpt", "llama"))


def explain_text(loaded: Loaded, asked: AskedText, out: Path | None, as_json: bool) -> None:
    """Draws one view and prints its path, or with `--json` its numbers.

    Args:
        out: a PNG or SVG; for attention an HTML page, too; or a JSON file of the numbers.
    """
    _check(asked)
    path = _checked(out or Path(f"explain-{asked.method}.png"), asked)
    show = {
        "attention": _attention,
        "rollout": _attention,
        "gradient-attention": _gradient_attention,
        "masked": _masked,
        "logit-lens": _lens,
    }.get(asked.method, _attribution)
    facts = {"out": str(path), "method": asked.method, "input": asked.given, **show(loaded, asked, path)}
    table = facts.pop("table", None)
    if path.suffix.lower() == ".json":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    _note_signs(facts, path)
    if as_json:
        print_json(facts)
        return
    if table is not None:
        print_table(*table)
    print_text(str(path))


def _note_signs(facts: dict[str, Any], path: Path) -> None:
    """Says where a PNG shows codes in place of characters."""
    from descent.runs.figure import drawable

    if path.suffix.lower() == ".png" and facts.get("view") != "grid":
        signs = {
            sign for text in (facts["input"], facts.get("text", "")) for sign in text if sign.isprintable()
        }
        if any(drawable([sign])[0] != sign for sign in signs):
            note("no font here has all of these characters, so their codes are drawn: an SVG shows them")


def list_text_layers(loaded: Loaded, as_json: bool) -> None:
    """Prints the attention layers."""
    from descent.explain.attention_text import attention_parts, kind_of

    parts = [(name, kind_of(name, part), part.heads) for name, part in attention_parts(loaded.model).items()]
    if as_json:
        print_json([{"name": name, "kind": kind, "heads": heads} for name, kind, heads in parts])
    else:
        print_table(["layer", "kind", "heads"], [[*map(str, part)] for part in parts], keep="layer")


def _check(asked: AskedText) -> None:
    """Nothing that is given may be of no use to the method."""
    maps = ("attention", "rollout", "gradient-attention")
    answers = ("gradient-attention", "saliency", "gradient-input", "integrated-gradients")
    given = {
        "--layer": (asked.layer is not None, ("attention", "gradient-attention")),
        "--head": (bool(asked.heads), ("attention",)),
        "--row": (bool(asked.rows), (*maps, *answers[1:])),
        "--view": (asked.view is not None, maps),
        "--top": (asked.top is not None, ("masked", "logit-lens")),
        "--target": (asked.target is not None, (*maps, "logit-lens", *answers[1:])),
    }
    for option, (is_given, fits) in given.items():
        if is_given and asked.method not in fits:
            raise UserError(
                f"{asked.method} of a text takes no {option}", expected="it with " + " or ".join(fits)
            )
    if asked.method in answers and len(asked.rows) > 1:
        raise UserError("one answer is explained at a time", got=list(asked.rows), expected="one --row")


def _checked(path: Path, asked: AskedText) -> Path:
    """A path that the view can be written to; to be asked before the work."""
    kind = path.suffix.lower()
    page = asked.method in ("attention", "rollout") or (
        asked.method == "gradient-attention" and asked.layer is not None
    )
    fits = (".png", ".svg", ".json", *((".html",) if page else ()))
    if kind not in fits or path.is_dir():
        raise UserError(
            "the file to write", got=str(path), expected="a name that ends with " + ", ".join(fits)
        )
    return path


def _texts(loaded: Loaded, asked: AskedText) -> tuple[dict[str, Any], str | None]:
    """The text's arguments; and of a model that writes no text, the answer that `--target` names."""
    crossed = loaded.config.model_dump().get("type") in ("t5", "transformer")
    texts = {"text": asked.given, "second": asked.second, "target": asked.target if crossed else None}
    return texts, None if crossed else asked.target


def _attention(loaded: Loaded, asked: AskedText, path: Path) -> dict[str, Any]:
    from descent.explain.attention_flow import text_rollout
    from descent.explain.attention_text import attention_of, only_rows

    texts, wanted = _texts(loaded, asked)
    if wanted is not None:
        raise UserError("attention is the same for every answer: --target is for models that write a text")
    if asked.method == "rollout":
        found = text_rollout(loaded, **texts)
        found = only_rows(found, asked.rows) if asked.rows else found
    else:
        layers = None if asked.layer is None else [asked.layer]
        heads, rows = asked.heads or None, asked.rows or None
        found = attention_of(loaded, **texts, layers=layers, heads=heads, rows=rows)
    return _shown(found, asked, path)


def _shown(found: TextAttention, asked: AskedText, path: Path) -> dict[str, Any]:
    """Draws maps, and gives their numbers."""
    from descent.explain.attention_figure import draw_heads, draw_lines, draw_map
    from descent.explain.attention_page import draw_page

    title, kind = TEXTS[asked.method], path.suffix.lower()
    single = len(found.layers) == 1 and len(found.layers[0].heads) == 1
    view = asked.view or ("map" if single else "grid")
    if kind == ".html":
        draw_page(found, path, title)
    elif kind != ".json" and view == "grid":
        draw_heads(found, path)
    elif kind != ".json":
        layer = found.layers[-1]  # of an encoder-decoder what is written to the source
        (draw_map if view == "map" else draw_lines)(layer, path, title)
    count, drawn = sum(layer.weights.numel() for layer in found.layers), {"view": view}
    if count > MOST_PRINTED:
        return {**drawn, "weights": f"{count:,}: choose --layer, --head or --row to have them"}
    layers = [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "heads": list(layer.heads),
            "rows": list(layer.rows),
            "keys": list(layer.keys),
            "weights": _plain(layer.weights),
        }
        for layer in found.layers
    ]
    return {**drawn, **({"text": found.text} if found.text else {}), "layers": layers}


def _gradient_attention(loaded: Loaded, asked: AskedText, path: Path) -> dict[str, Any]:
    from descent.explain.attention_flow import gradient_attention, relevance

    texts, wanted = _texts(loaded, asked)
    answer: dict[str, Any] = {"wanted": wanted, "position": asked.rows[0] if asked.rows else None}
    if asked.layer is not None:
        maps, said = gradient_attention(loaded, **texts, layers=[asked.layer], **answer)
        return {**_said(said), **_shown(maps, asked, path)}
    found = relevance(loaded, **texts, **answer)
    return _values(found.pieces, found.values, found.answer, asked, path)


def _attribution(loaded: Loaded, asked: AskedText, path: Path) -> dict[str, Any]:
    from descent.explain.text_attribution import token_attribution

    texts, wanted = _texts(loaded, asked)
    position = asked.rows[0] if asked.rows else None
    method = cast("TokenMethod", asked.method)
    found = token_attribution(loaded, method=method, **texts, wanted=wanted, position=position)
    more = {} if found.residual is None else {"residual": found.residual, "points": found.points}
    error = "" if found.residual is None else f"; complete to {abs(found.residual):.1e}"
    return {**_values(found.pieces, found.values, found.answer, asked, path, error), **more}


def _values(
    pieces: Mapping[str, tuple[str, ...]],
    values: Mapping[str, Any],
    answer: Answer,
    asked: AskedText,
    path: Path,
    error: str = "",
) -> dict[str, Any]:
    from descent.explain.attention_figure import draw_values
    from descent.runs.figure import percent, short

    if path.suffix.lower() != ".json":
        told = f"for {short(answer.label, 60)} ({percent(answer.probability)}){error}"
        draw_values(pieces, values, TEXTS[asked.method], told, path)
    sides = [{"side": side, "tokens": list(pieces[side]), "values": _plain(values[side])} for side in pieces]
    return {**_said(answer), "sides": sides}


def _masked(loaded: Loaded, asked: AskedText, path: Path) -> dict[str, Any]:
    """What stands behind the marks; of a text without any, how each of its words is expected."""
    from descent.explain.attention_figure import draw_values, draw_words
    from descent.explain.hidden_words import masked_words, pseudo_likelihood
    from descent.explain.text_reading import read_text
    from descent.runs.figure import percent

    draws = path.suffix.lower() != ".json"
    _, tokenizer, reading = read_text(loaded, asked.given, None, asked.second)
    side = reading.sides["tokens"]
    if tokenizer.marks.find("mask") not in side.ids:
        expected = pseudo_likelihood(loaded, asked.given, asked.second)
        if draws:
            import numpy as np

            about = f"log-probability of each token, hidden alone; perplexity {expected.perplexity:.4g}"
            logs = {"tokens": np.array(expected.log_probabilities)}
            draw_values({"tokens": expected.pieces}, logs, "Pseudo-log-likelihood", about, path)
        return {
            "tokens": list(expected.pieces),
            "log_probabilities": _plain(expected.log_probabilities),
            "total": expected.total,
            "perplexity": expected.perplexity,
        }
    found = masked_words(loaded, asked.given, asked.second, top=asked.top or 5)
    if draws:
        draw_words(side.pieces, found, path)
    hidden = [
        {
            "place": word.place,
            "words": [
                {"token": token, "probability": share}
                for token, share in zip(word.words, word.probabilities, strict=True)
            ],
        }
        for word in found
    ]
    rows = [
        [str(number), token, percent(share)]
        for number, word in enumerate(found)
        for token, share in zip(word.words, word.probabilities, strict=True)
    ]
    columns = ["mark", "token", "probability"]
    return {"tokens": list(side.pieces), "hidden": hidden, "table": (columns, rows)}


def _lens(loaded: Loaded, asked: AskedText, path: Path) -> dict[str, Any]:
    from descent.explain.attention_figure import draw_lens
    from descent.explain.text_lens import logit_lens

    texts, wanted = _texts(loaded, asked)
    if wanted is not None:
        raise UserError("the lens shows the likeliest tokens: --target is for models that write a text")
    found = logit_lens(loaded, **texts, top=asked.top or 1)
    if path.suffix.lower() != ".json":
        draw_lens(found, path)
    layers = [
        {"layer": name, "words": [list(place) for place in words], "probabilities": _plain(shares)}
        for name, words, shares in zip(found.layers, found.words, found.probabilities, strict=True)
    ]
    written = {"written": list(found.written)} if found.written else {}
    return {"tokens": list(found.pieces), **written, "layers": layers}


def _said(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.label, "probability": answer.probability}


def _plain(values: Any) -> Any:
    """Numbers in six figures, as JSON takes them."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, (list, tuple)):
        return [_plain(inner) for inner in listed]
    return float(f"{listed:.6g}")
