"""``weiml predict``: what it asks for, and what it says when nobody answers."""

from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from weiml.cli import app


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["7"], "give either --model (with --view) or --url"),
        (["7", "--model", "m", "--url", "http://x"], "give either --model"),
        (["7", "--model", "m"], "--model needs --view"),
        (["7", "--url", "http://127.0.0.1:1"], "--url needs the candidates"),
    ],
)
def test_what_is_missing_is_asked_for(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:  # bound, not listening: nothing else can answer on it
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(app, ["predict", "7", "1", "2", "--url", url, "--json"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert f"no answer from {url}" in done.stderr
