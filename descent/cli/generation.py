"""`descent generate`: a model writes text, what a text becomes, or music."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descent.cli.model import PANEL, Adapter, Checkpoint, Json, ModelArgument, open_model
from descent.cli.places import data_of, split_example
from descent.cli.terminal import note, print_json, print_text
from descent.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from descent.runs.loaded import Loaded

Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        min=0,
        help="0 = always the most probable token.",
        show_default="what the model's authors recommend, else 0.8",
    ),
]
TopK = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Draw among the k most probable; 0 = all.")
]
TopP = Annotated[
    float | None, typer.Option(metavar="X", min=0, max=1, help="Draw among those that make up p.")
]
MinP = Annotated[
    float | None, typer.Option(metavar="X", min=0, max=1, help="Only tokens this share of the top one's.")
]
Penalty = Annotated[float | None, typer.Option(metavar="X", min=0, help="Over 1 avoids what was written.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="The same seed writes the same text.")]
Stop = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="End before this text; may be given again.")
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Of a model of music: the MIDI file to write.")
]
BARS = 16
MOST_NAMED = 10
Bars = Annotated[int, typer.Option(metavar="N", min=1, help="Of music: bars to write.")]
Beams = Annotated[int, typer.Option(metavar="N", min=1, help="Over 1: beam search, no sampling.")]
Precision = Annotated[
    str, typer.Option(metavar="fp32|bf16", help="What the weights are held in; bf16 is faster here.")
]
Length = Annotated[int, typer.Option(metavar="N", min=1, help="Tokens to write at most.")]
Sliding = Annotated[bool, typer.Option("--sliding", help="Go on past the context window.")]
Stream = Annotated[bool, typer.Option(help="Print the text while it is written.")]
Prompt = Annotated[str, typer.Option(metavar="TEXT", help="The text to go on from; - reads it from stdin.")]


Chat = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What a user says; a model taught to converse answers.")
]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(generate)


def generate(
    model: ModelArgument,
    prompt: Prompt = "",
    chat: Chat = None,
    max_new_tokens: Length = 200,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = None,
    seed: Seed = 0,
    stop: Stop = None,
    out: Out = None,
    bars: Bars = BARS,
    beams: Beams = 1,
    precision: Precision = "fp32",
    sliding: Sliding = False,
    stream: Stream = True,
    checkpoint: Checkpoint = "best",
    adapter: Adapter = None,
    as_json: Json = False,
) -> None:
    """Let a model write: the prompt and what follows it, what a text becomes, or music.

    A model of music writes a MIDI file and its piano roll; its prompt is a MIDI file, or a piece of the run's
    data such as test:3, whose first bars it goes on from. A model of pairs, such as a translator, prints what
    the prompt becomes.
    """
    if prompt == "-":
        prompt = sys.stdin.read()
    if precision not in ("fp32", "bf16"):
        raise UserError("--precision", got=precision, expected="fp32 or bf16")
    loaded = open_model(model, checkpoint, precision=precision, adapter=adapter)
    if loaded.preparation.get("kind") in ("frames", "voices"):
        _refuse({"--beams": beams > 1, "--stop": bool(stop), "--chat": chat is not None}, "text")
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        _compose(loaded, model, out, bars, prompt, {**_given(given), "seed": seed}, as_json)
        return
    _refuse({"--out": out is not None, "--bars": bars != BARS}, "music")
    chosen = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        **_given(chosen),
        "seed": seed,
        "stop": list(stop or ()),
        "sliding": sliding,
    }
    _write(loaded, prompt, chat, settings, beams, stream and not as_json, as_json)


def _refuse(given: dict[str, bool], kind: str) -> None:
    """Raises a `UserError` for an option that was given and is of no use to the model."""
    for option, is_given in given.items():
        if is_given:
            raise UserError(f"{option} is for models of {kind}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _compose(
    loaded: Loaded,
    model: str,
    out: Path | None,
    bars: int,
    prompt: str,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Writes music into a file beside its picture, and prints their paths."""
    from descent.runs.piano_roll import compose

    beginning = _beginning(loaded, model, prompt) if prompt else None
    target = out or Path(f"{Path(loaded.name).name or 'tune'}.mid")
    tune = compose(loaded.model, loaded.preparation, target, bars=bars, prompt=beginning, **settings)
    if as_json:
        facts = {"midi": str(tune.midi), "picture": str(tune.picture)}
        print_json({**facts, "steps": tune.steps, "prompt": tune.prompt, "notes": tune.notes})
    else:
        print_text(f"{tune.midi}\n{tune.picture}")


def _beginning(loaded: Loaded, model: str, prompt: str) -> np.ndarray:
    """The first bars of a MIDI file, or of a piece of the run's data."""
    from descent.runs.piano_roll import opening, opening_of

    piece = split_example(prompt)
    return opening_of(data_of(model), *piece) if piece else opening(prompt, loaded.preparation)


def _note_unknown(loaded: Loaded, text: str) -> None:
    """Says which characters of a prompt the model's tokenizer does not know, as it reads them all as one."""
    from descent.text.marks import UNKNOWN

    tokenizer = loaded.tokenizer
    if tokenizer is None:
        return
    known = tokenizer.marks.vocabulary
    marks = {known[name] for name in (UNKNOWN, "[UNK]") if name in known}
    if not marks:
        return
    read = tokenizer.pieces(text)
    places = [place for index, place in zip(read.ids, read.spans, strict=True) if index in marks]
    lost = list(dict.fromkeys(text[start:end] for start, end in places))
    if lost:
        more = f", and {len(lost) - MOST_NAMED:,} more" if len(lost) > MOST_NAMED else ""
        note(f"warning: unknown to this model: {', '.join(map(repr, lost[:MOST_NAMED]))}{more}")


def _write(
    loaded: Loaded,
    prompt: str,
    chat: str | None,
    settings: dict[str, Any],
    beams: int,
    stream: bool,
    as_json: bool,
) -> None:
    """Prints what a model writes: after the prompt, or as the answer to what a user says."""
    if chat is not None and prompt:
        raise UserError("--prompt is gone on from, --chat is answered: give one of them")
    _note_unknown(loaded, prompt if chat is None else chat)
    said = prompt if chat is None else [{"role": "user", "content": chat}]
    echo = "" if loaded.translates or chat is not None else prompt
    if stream and beams == 1:
        pieces = loaded.stream(said, **settings)  # what is wrong shows before anything is printed
        print_text(echo, end="")
        for piece in pieces:
            print_text(piece, end="")
        print_text("")
        return
    started = time.monotonic()
    done = loaded.complete([said], **settings, beams=beams)[0]
    if not as_json:
        print_text(echo + done.text)
        return
    print_json(
        {
            "prompt": prompt if chat is None else chat,
            "text": done.text,
            "reason": done.reason,
            "tokens": done.tokens,
            "logprobs": done.logprobs,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
