"""``weiml ps status``: what groups hold and have done, one line each."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from weiml.cli.console import JsonOption, speaking, table
from weiml.cli.ps.connection import AddressOption
from weiml.cluster import ray_running
from weiml.errors import ParameterServerError

__all__ = ["status"]

_HEADS = (
    "NAME",
    "STATE",
    "SHARDS",
    "REPLICAS",
    "DEGRADED",
    "FAILOVERS",
    "RESTORES",
    "LOST",
    "VERSION",
    "WORKERS",
    "ROWS",
    "MIB",
    "PULLS",
    "PUSHES",
    "SEQUENCE",
    "CLOCKS",
)


def status(
    name: Annotated[
        str | None, typer.Argument(help="A group's name; all groups when left out.")
    ] = None,
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Show rows, memory, requests, replicas and the workers' clocks of parameter servers.

    DEGRADED counts the shards that lack a stand-by, FAILOVERS those that a stand-by took over,
    RESTORES those that came back from a checkpoint, and LOST the acknowledged writes that this
    cost. VERSION counts how often buckets moved.

    Example: weiml ps status weiml-ps --json
    """
    with speaking(json) as console, ray_running(address):
        from weiml.ps import list_groups

        found = [_look(name)] if name else [_try_to_look(group) for group in list_groups()]
        console.result(found, _text(found))


def _look(name: str) -> dict[str, Any]:
    from weiml.ps import RayParameterServer

    with RayParameterServer.connect(name) as server:
        return server.status()


def _try_to_look(name: str) -> dict[str, Any]:
    """Return a group's status, or why it has none: the others are shown all the same."""
    try:
        return _look(name)
    except ParameterServerError as error:
        return {"name": name, "state": "no answer", "error": str(error)}


def _text(groups: list[dict[str, Any]]) -> str:
    if not groups:
        return "no parameter server runs in this Ray cluster"
    lines = [table(_HEADS, [_row(group) for group in groups])]
    for group in groups:
        lines += [f"{group['name']}: {what}" for what in _troubles(group)]
    return "\n".join(lines)


def _row(group: dict[str, Any]) -> tuple[Any, ...]:
    if "rows" not in group:
        return (group["name"], group["state"], *["-"] * (len(_HEADS) - 2))
    clocks = " ".join(f"{worker}:{ticks}" for worker, ticks in group["clocks"].items())
    return (
        group["name"],
        group["state"],
        group["num_shards"],
        group["replicas"],
        len(group["degraded"]),
        group["failovers"],
        group["restores"],
        group["lost_writes"],
        group["version"],
        group["num_workers"],
        group["rows"],
        f"{group['bytes'] / 2**20:,.1f}",
        group["pulls"],
        group["pushes"],
        group["sequence"],
        clocks or "-",
    )


def _troubles(group: dict[str, Any]) -> list[str]:
    lost = [f"shard {shard} is gone, {why}" for shard, why in group.get("lost", {}).items()]
    return lost + ([str(group["error"])] if group.get("error") else [])
