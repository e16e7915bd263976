"""``weiml flow``: run a flow file, or show what is in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from weiml.cli.console import JsonOption, SetOption, speaking, table
from weiml.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Run flows and show them.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A flow: .xml or .json.")]


@app.command()
def run(
    file: FileArgument,
    set_: SetOption = [],  # noqa: B006 - typer reads it, and copies
    runs_dir: Annotated[
        Path, typer.Option(help="Where outputs, the cache and the ledger lie.")
    ] = Path("runs"),
    force: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Run this node although it is cached; all: every node."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a flow; nodes that nothing has changed for come from the cache.

    Example: weiml flow run configs/flows/feed.xml --set trials=4
    """
    from weiml.flow import run_flow

    with speaking(json) as console:
        _see_working_folder()
        forced = True if force == ["all"] else force or False
        result = run_flow(file, runs_dir, params=_params(set_), force=forced)
        rows = [
            (node.id, node.engine, node.state.value, round(node.seconds, 1), node.reason)
            for node in result.nodes.values()
        ]
        text = table(["NODE", "ENGINE", "STATE", "SECONDS", "WHY"], rows)
        console.result(result.to_mapping(), f"run {result.run}\n{text}")


@app.command()
def show(
    file: FileArgument,
    set_: SetOption = [],  # noqa: B006 - typer reads it, and copies
    svg: Annotated[Path | None, typer.Option(help="Also draw the graph into this file.")] = None,
    json: JsonOption = False,
) -> None:
    """Check a flow, its engines, steps and parameters, and list its nodes in running order.

    Example: weiml flow show configs/flows/feed.xml --svg feed.svg
    """
    from weiml.flow import bind_flow, load_flow, to_json

    with speaking(json) as console:
        _see_working_folder()
        bound = bind_flow(load_flow(file), _params(set_))
        if svg is not None:
            from weiml.flow.draw import to_svg

            svg.write_text(to_svg(bound.flow), encoding="utf-8")
            console.note(f"wrote {svg}")
        rows = [
            (
                node.node.id,
                node.node.engine,
                ", ".join(node.node.upstream) or "-",
                " ".join(step.step.name for step in node.steps),
            )
            for node in bound.nodes
        ]
        text = table(["NODE", "ENGINE", "AFTER", "STEPS"], rows)
        console.result(_tree(to_json(bound.flow)), f"flow {bound.flow.name}\n{text}")


def _tree(text: str) -> dict[str, Any]:
    from json import loads

    tree: dict[str, Any] = loads(text)
    return tree


def _params(overrides: list[str]) -> dict[str, object]:
    """Read ``name=value`` texts; the flow's parameters are texts, converted where they are used."""
    values: dict[str, object] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set takes name=value, got {override!r}")
        values[name.strip()] = text
    return values


def _see_working_folder() -> None:
    """Let flows name step modules of the folder the command runs in, as `python -m` would."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
