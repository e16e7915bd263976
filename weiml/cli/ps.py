"""``weiml ps``: look at the parameter servers that run in a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from weiml.cli.console import JsonOption, speaking, table
from weiml.cluster import ray_running

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at running parameter servers.")


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(help="A group's name; all groups when left out.")
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="The Ray cluster: HOST:PORT, or auto for one on this machine.",
        ),
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Show rows, memory, requests and the workers' clocks of parameter servers.

    Example: weiml ps status weiml-ps --json
    """
    with speaking(json) as console, ray_running(address):
        from weiml.ps import RayParameterServer, list_groups

        names = [name] if name else list_groups()
        found = [RayParameterServer.connect(group).status() for group in names]
        console.result(found, _text(found))


def _text(groups: list[dict[str, Any]]) -> str:
    if not groups:
        return "no parameter server runs in this Ray cluster"
    heads = ["NAME", "SHARDS", "WORKERS", "ROWS", "MIB", "PULLS", "PUSHES", "SEQUENCE", "CLOCKS"]
    rows = [
        (
            group["name"],
            group["num_shards"],
            group["num_workers"],
            group["rows"],
            round(group["bytes"] / 2**20, 1),
            group["pulls"],
            group["pushes"],
            group["sequence"],
            " ".join(f"{worker}:{ticks}" for worker, ticks in group["clocks"].items()) or "-",
        )
        for group in groups
    ]
    return table(heads, rows)
