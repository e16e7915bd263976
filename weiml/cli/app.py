"""The ``weiml`` command: its groups put together. Frameworks load inside the commands only."""

from __future__ import annotations

from typing import Annotated

import typer

import weiml
from weiml.cli import data, flow, ps
from weiml.cli.console import ErrorGroup
from weiml.cli.evaluate import evaluate
from weiml.cli.models import models
from weiml.cli.predict import predict
from weiml.cli.serve import serve
from weiml.cli.train import train
from weiml.cli.tune import tune

__all__ = ["app", "main"]

app = typer.Typer(
    name="weiml",
    cls=ErrorGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(flow.app, name="flow")
app.add_typer(ps.app, name="ps")
app.command()(models)
app.command()(train)
app.command()(evaluate)
app.command()(tune)
app.command()(serve)
app.command()(predict)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"weiml {weiml.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Rank feeds, ads and recommendations: data, flows, training, search, serving.

    Results go to stdout (one JSON document with --json), everything else to stderr.
    Exit codes: 0 done, 2 an error that is said in one line, 3 training diverged, 130 interrupted.
    """


def main() -> None:
    """Entry point of the installed command."""
    app()
