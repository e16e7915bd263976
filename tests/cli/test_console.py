"""Results alone on stdout, errors in one line with exit code 2, Ctrl-C as 130."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from weiml.cli.console import ErrorGroup, JsonOption, speaking, table
from weiml.errors import DataError

app = typer.Typer(cls=ErrorGroup, pretty_exceptions_enable=False)


@app.callback()
def options(debug: bool = False) -> None:
    """Stand-in for the real command's options."""


@app.command()
def succeed(json: JsonOption = False) -> None:
    """Print through every channel."""
    with speaking(json) as console:
        print("a library's chatter")
        console.note("half way")
        payload = {
            "path": Path("a/b"),
            "count": np.int64(3),
            "scores": np.array([0.5, np.nan]),
            "nan": float("nan"),
            "text": "Amélie",
        }
        console.result(payload, "three")


@app.command()
def refuse() -> None:
    """Fail as weiml does."""
    raise DataError("column 'genre'\nis missing")


@app.command()
def interrupt() -> None:
    """Fail as Ctrl-C does."""
    raise KeyboardInterrupt


@app.command()
def crash() -> None:
    """Fail as a bug does."""
    raise RuntimeError("a bug")


def test_json_is_the_only_thing_on_stdout() -> None:
    done = CliRunner().invoke(app, ["succeed", "--json"])
    assert json.loads(done.stdout) == {
        "path": "a/b",
        "count": 3,
        "scores": [0.5, None],
        "nan": None,
        "text": "Amélie",
    }
    assert done.stderr == "a library's chatter\nhalf way\n"


def test_text_is_the_only_thing_on_stdout() -> None:
    assert CliRunner().invoke(app, ["succeed"]).stdout == "three\n"


def test_stdout_is_given_back() -> None:
    before = sys.stdout
    with speaking(False):
        assert sys.stdout is sys.stderr
    assert sys.stdout is before


def test_an_error_is_one_line_on_stderr() -> None:
    done = CliRunner().invoke(app, ["refuse"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == "error: column 'genre' is missing\n"


def test_debug_shows_where_an_error_came_from() -> None:
    done = CliRunner().invoke(app, ["--debug", "refuse"])
    assert isinstance(done.exception, DataError)


def test_an_interrupt_exits_as_a_shell_reports_it() -> None:
    done = CliRunner().invoke(app, ["interrupt"])
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_a_bug_is_not_dressed_up() -> None:
    assert isinstance(CliRunner().invoke(app, ["crash"]).exception, RuntimeError)


def test_an_unknown_option_is_a_usage_error() -> None:
    done = CliRunner().invoke(app, ["succeed", "--jsn"])
    assert done.exit_code == 2
    assert "--json" in done.stderr


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "NAME  N"),
        ([("a", 10), ("bcdef", 2)], "NAME    N\na      10\nbcdef   2"),
        ([("auc", 0.75)], "NAME       N\nauc   0.7500"),
    ],
)
def test_a_table_is_aligned(rows: list[tuple[object, ...]], expected: str) -> None:
    assert table(["NAME", "N"], rows) == expected
