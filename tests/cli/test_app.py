"""The command line as a whole: what there is, help everywhere, and the entry point's exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import weiml
from weiml.cli import app

COMMANDS = {
    "data convert",
    "data drift",
    "data fetch",
    "data ls",
    "data stats",
    "evaluate",
    "models",
    "flow run",
    "flow show",
    "predict",
    "ps checkpoint",
    "ps checkpoints",
    "ps export",
    "ps rescale",
    "ps restore",
    "ps rows",
    "ps status",
    "ps stop",
    "ps top",
    "serve",
    "train",
    "tune",
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield path, command


LEAVES = dict(leaves(typer.main.get_command(app)))


def test_the_commands_are_these() -> None:
    # What a script relies on: a change here is a change of the interface.
    assert {" ".join(path) for path in LEAVES} == COMMANDS


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)
    assert done.exit_code == 0
    assert f"Example: weiml {' '.join(path)}" in " ".join(done.stdout.split())


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_speaks_json(path: tuple[str, ...]) -> None:
    assert "--json" in {option for p in LEAVES[path].params for option in p.opts}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_parameter_is_explained(path: tuple[str, ...]) -> None:
    for parameter in LEAVES[path].params:
        assert parameter.help, f"weiml {' '.join(path)}: {parameter.name} has no help"


def test_version_is_the_librarys() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"weiml {weiml.__version__}\n"


def test_no_arguments_show_the_help() -> None:
    done = CliRunner().invoke(app, [])
    assert "Commands" in done.stdout + done.stderr


@pytest.mark.process
def test_the_entry_point_exits_with_the_commands_code(root: Path, tmp_path: Path) -> None:
    code = "from weiml.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "fetch", "nothing", "--cache-dir", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown data set 'nothing'")
    assert "Traceback" not in done.stderr
