"""The command line: `descent COMMAND`. Importing it imports no torch; a command does, when it must.

Exit codes: 0 fine, 1 a check that failed (or a bug, with its traceback), 2 the user's input, 3 a corrupt
artifact, 4 a locked run, 130 and 143 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import descent
from descent.cli import catalog, data, explain, generation, machine, model, runs, search, training
from descent.cli.terminal import fail, prepare_streams
from descent.errors import UserError

__all__ = ["app", "main"]

ABOUT = """The main line of deep learning as one small library: train it, check it, use it.

Start with  descent train gpt  or  descent list"""


class Commands(TyperGroup):
    """The commands, in the order they were added; Ctrl-C ends any of them with 130."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: Any) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


app = typer.Typer(
    cls=Commands,
    help=ABOUT,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"descent {descent.__version__}")
        raise typer.Exit()
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the whole program."""


for room in (training, model, generation, search, explain, catalog, runs, data, machine):
    room.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; what is no user's mistake keeps its traceback."""
    prepare_streams()
    try:
        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="descent")
    except SystemExit as stop:
        code = stop.code
    except UserError as error:
        code = fail(error)
    except BrokenPipeError:
        code = 1
    else:
        code = 0
    return _close(code if isinstance(code, int) else 0 if code is None else 1)


def _close(code: int) -> int:
    """Hands the last output over while a reader that has gone away can still be noticed quietly."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 1
    return code
