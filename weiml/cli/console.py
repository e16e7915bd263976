"""How commands speak: results on stdout, everything else on stderr, errors in one line.

Knows nothing of what the commands do.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from weiml.errors import DivergedError, WeimlError

__all__ = ["Console", "ErrorGroup", "JsonOption", "SetOption", "speaking", "table"]

EXIT_ERROR = 2
EXIT_DIVERGED = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document, nothing else.")
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="A.B=VALUE", help="Set one value; may be given again."),
]


class ErrorGroup(TyperGroup):
    """The top of the command line: turns errors into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; 2 for weiml's own errors and bad paths, 130 for Ctrl-C.

        3 for training that diverged, so that a script can tell it from a mistake.
        """
        try:
            return super().invoke(ctx)
        except (WeimlError, OSError) as error:
            message = _message(error)
            if ctx.params.get("debug") or message is None:
                raise
            typer.echo(f"error: {message}", err=True)
            diverged = isinstance(error, DivergedError)
            raise typer.Exit(EXIT_DIVERGED if diverged else EXIT_ERROR) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _message(error: Exception) -> str | None:
    """What went wrong in one line; None for a system's error that is about no file."""
    if isinstance(error, OSError) and not isinstance(error, WeimlError):
        if error.filename is None:
            return None
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    return " ".join(str(error).split())


@dataclass(frozen=True, kw_only=True)
class Console:
    """Where one command puts its words."""

    as_json: bool
    stdout: Any

    def note(self, text: str) -> None:
        """Say something about progress, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def result(self, payload: Mapping[str, Any] | Sequence[Any], text: str) -> None:
        """Print the command's result: `payload` with ``--json``, else `text`."""
        if self.as_json:
            text = json.dumps(_plain(payload), allow_nan=False, ensure_ascii=False)
        print(text, file=self.stdout, flush=True)


@contextlib.contextmanager
def speaking(as_json: bool) -> Iterator[Console]:
    """Give a command its console; whatever libraries print meanwhile goes to stderr."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a Ray warning
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield Console(as_json=as_json, stdout=stdout)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as aligned text: numbers, as text too, to the right; four decimals for floats."""
    body = [[_cell(value) for value in row] for row in rows]
    right = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    lines = []
    for cells in ([*heads], *body):
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(
                cells, widths, right or [False] * len(heads), strict=True
            )
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.replace(",", "").replace(".", "", 1).isdecimal()
    return isinstance(value, (int, float))


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """Turn paths, NumPy's numbers and arrays, and NaN (to null) into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _plain(value.tolist()) if hasattr(value, "tolist") else value
