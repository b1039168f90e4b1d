"""What a decoder looks at in its source while it writes: the alignment, to arrays and a figure.

Legend: T written tokens, S tokens of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from descent.data.pairs import source_ids
from descent.errors import UserError
from descent.explain.probes import at_rest
from descent.generation.protocol import device_of
from descent.generation.settings import Settings
from descent.generation.translate import translate
from descent.runs.figure import GRID, drawing, headline, png, save
from descent.text.tokenizer import Tokenizer

__all__ = ["Alignment", "alignment", "draw_alignment"]

LONGEST = 80
CELL = 0.26
"""Inches of a weight in the figure, of which a side may have `LONGEST`."""


@dataclass(frozen=True)
class Alignment:
    """Attention weights of a text that was written for a source.

    Attributes:
        source, target: the tokens as they read, the end marks as "end".
        weights: what each written token gave to every token of the source when it was written; each row adds
            up to 1.
        text: the written text.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: Float[Tensor, "target source"]
    text: str

    def draw(self, path: str | Path) -> Path:
        """Draws it into a PNG."""
        return draw_alignment(self, Path(path))


def alignment(
    model: Any,
    tokenizer: Tokenizer,
    text: str,
    target: str | None = None,
    *,
    max_new_tokens: int = 128,
    start: Sequence[int] = (),
) -> Alignment:
    """The alignment of one text and what the model writes for it, greedily, or a target that is given.

    Bahdanau, Cho, Bengio (2015), figure 3; Luong, Pham, Manning (2015), section 5.4.

    Args:
        model: with `attention_weights(source, source_lengths, tokens)` -> (batch, time, source).
        tokenizer: of both sides.
        text: the source.
        target: read by teacher forcing in place of what the model would write.
        max_new_tokens: the most it writes.
        start: what the decoder begins with; what the tokenizer pads with when empty.

    Raises:
        UserError: the model has no attention over a source.
    """
    if not callable(getattr(model, "attention_weights", None)):
        raise UserError(
            "there is no alignment to show: the model does not attend to a source",
            got=type(model).__name__,
            expected="an encoder-decoder with attention",
        )
    if target is None:
        settings = Settings(temperature=0.0, max_new_tokens=max_new_tokens)
        (written,) = translate(model, [text], tokenizer, settings, start=start)
        tokens, ended = written.tokens, written.reason == "stop"
    else:
        tokens, ended = tokenizer.encode(target), True
    source, shown = source_ids(text, tokenizer), [*tokens, *[tokenizer.end] * ended]
    begun, device = list(start) or [tokenizer.pad], device_of(model)
    with at_rest(model), torch.no_grad():
        weights_1TS = model.attention_weights(
            torch.tensor([source], device=device),
            torch.tensor([len(source)], device=device),
            torch.tensor([[*begun, *shown[:-1]]], device=device),
        )[:, len(begun) - 1 :]
    return Alignment(
        tuple(_read(tokenizer, index) for index in source),
        tuple(_read(tokenizer, index) for index in shown),
        weights_1TS[0].float().cpu(),
        tokenizer.decode(tokens),
    )


def draw_alignment(found: Alignment, path: Path) -> Path:
    """Draws the weights as a map, the source along the top, what was written down the side.

    Args:
        found: of at most 80 tokens a side.
        path: the PNG to write.

    Raises:
        UserError: a side is longer.
    """
    path = png(path)
    height, width = found.weights.shape
    if max(height, width) > LONGEST:
        raise UserError(
            "the alignment is too large to be drawn",
            got=f"{height} tokens written for {width}",
            expected=f"at most {LONGEST} a side",
            hint="its arrays hold all of it",
        )
    with drawing(max(CELL * width + 1.2, 6.4), CELL * height + 1.6) as figure:
        axes = figure.add_subplot()
        picture = axes.imshow(found.weights.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axes.set_xticks(range(width), found.source, rotation=_turn(found.source))
        axes.set_yticks(range(height), found.target)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_ylabel("written")
        bar = figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.02)
        bar.outline.set_edgecolor(GRID)  # type: ignore[operator]
        headline(
            figure, "Alignment", "how much each written token looks at each of the source; rows add up to 1"
        )
        return save(figure, path)


def _read(tokenizer: Tokenizer, index: int) -> str:
    """A token as it can be seen: blanks as signs for them."""
    if index == tokenizer.end:
        return "end"
    return tokenizer.token(index).replace(" ", "\N{OPEN BOX}").replace("\n", "\N{RETURN SYMBOL}")


def _turn(labels: tuple[str, ...]) -> int:
    """Words stand upright, so that they do not run into each other; single signs lie."""
    return 90 if max(len(label) for label in labels[:-1] or labels) > 1 else 0
