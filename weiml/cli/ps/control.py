"""``weiml ps rescale`` and ``stop``: change how many shards a group has; end it."""

from __future__ import annotations

from typing import Annotated

import typer

from weiml.cli.console import JsonOption, speaking
from weiml.cli.ps.connection import AddressOption, NameArgument, connected
from weiml.cluster import ray_running

__all__ = ["rescale", "stop"]


def rescale(
    name: NameArgument,
    shards: Annotated[int, typer.Argument(help="How many shards the group is to have.")],
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Change the number of shards while training goes on; no push is lost.

    With a staleness bound the switch waits until all live workers are at the same tick.

    Example: weiml ps rescale feed 4
    """
    with speaking(json) as console, connected(name, address) as server:
        from weiml.ps import Partition

        Partition(shards, server.config.num_buckets)  # a wrong number is said before all else
        before = server.status()["num_shards"]
        console.note(f"{name}: moving buckets")
        server.rescale(shards)
        version = server.status()["version"]
        payload = {"name": name, "before": before, "num_shards": shards, "version": version}
        console.result(payload, f"{name}: {before} → {shards} shards, version {version}")


def stop(
    name: NameArgument,
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Let a group take in what is on its way, save below its checkpoint root, and end.

    When this returns, none of its processes is left. Without a checkpoint root nothing is saved:
    run `weiml ps checkpoint NAME --to PATH` first.

    Example: weiml ps stop feed
    """
    with speaking(json) as console, ray_running(address):
        from weiml.ps import RayParameterServer

        with RayParameterServer.connect(name) as server:
            root = server.config.checkpoint_root
        console.note(
            f"{name}: saving below {root}" if root else f"{name}: ending, nothing is saved"
        )
        RayParameterServer.stop(name)
        console.result({"name": name, "stopped": True, "saved_below": root}, f"{name}: stopped")
