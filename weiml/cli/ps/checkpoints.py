"""``weiml ps checkpoint``, ``checkpoints``, ``export`` and ``restore``."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import JsonOption, speaking, table
from weiml.cli.ps.connection import AddressOption, NameArgument, connected
from weiml.errors import ConfigError, ParameterServerError

if TYPE_CHECKING:
    from weiml.ps.checkpoint import CheckpointInfo, CheckpointStore

__all__ = ["checkpoint", "checkpoints", "export", "restore"]

RootArgument = Annotated[str, typer.Argument(help="A store's folder or URL (checkpoint_root).")]


def checkpoint(
    name: NameArgument,
    full: Annotated[
        bool, typer.Option("--full", help="A full checkpoint, where a delta would do.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A full one at this path or URL, outside the store."),
    ] = None,
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write a group's next checkpoint below its checkpoint root, or one to a path.

    Example: weiml ps checkpoint feed --to s3://bucket/feed-before-launch
    """
    with speaking(json) as console, connected(name, address) as server:
        if to is None:
            path = server.checkpoint(full=full)
        else:
            path = to
            server.save(to)
        console.result({"name": name, "path": path}, path)


def checkpoints(
    root: RootArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file and check its sum, not only sizes.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the checkpoints of a store, the oldest first; needs no running group.

    With --verify the exit code is 2 if one of them is damaged.

    Example: weiml ps checkpoints runs/feed --verify
    """
    with speaking(json) as console:
        store = _store(root)
        infos = [_verified(store, info) if verify else info for info in store.list()]
        console.result([dataclasses.asdict(info) for info in infos], _list(root, infos))
        damaged = [info.id for info in infos if info.damage is not None]
        if verify and damaged:
            raise ParameterServerError(
                f"{len(damaged)} of {len(infos)} checkpoints below {root} are damaged: "
                f"{', '.join(damaged)}; restoring uses the newest of the others"
            )


def export(
    root: RootArgument,
    id: Annotated[str, typer.Argument(help="A checkpoint's id, or latest.")],
    folder: Annotated[str, typer.Argument(help="Where to; must not exist yet.")],
    state: Annotated[
        bool, typer.Option("--state", help="The optimizer's state instead of the weights.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a checkpoint's tables as Parquet, one folder a table; needs no running group.

    Example: weiml ps export runs/feed latest exported
    """
    with speaking(json) as console:
        store = _store(root)
        chosen = _newest(store) if id == "latest" else id
        store.export(chosen, folder, columns="state" if state else "weights")
        console.result({"id": chosen, "folder": folder}, f"{chosen} → {folder}")


def restore(
    name: NameArgument,
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|ID", help="A checkpoint's path or URL; or an id of the store, or latest."
        ),
    ],
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Replace everything in a group by a checkpoint, whatever number of shards wrote it.

    Workers must be between two ticks, and ask for new clients afterwards.

    Example: weiml ps restore feed latest
    """
    with speaking(json) as console, connected(name, address) as server:
        path = _path(server.config.checkpoint_root, source)
        server.load(path)
        rows = server.status()["rows"]
        payload = {"name": name, "path": path, "rows": rows}
        console.result(payload, f"{name}: {rows:,} rows from {path}")


def _store(root: str) -> CheckpointStore:
    from weiml.ps.checkpoint import CheckpointStore

    store = CheckpointStore(root)
    if not store.folder.exists():
        raise ParameterServerError(f"there is no folder {root}; give a checkpoint root")
    return store


def _newest(store: CheckpointStore) -> str:
    newest = store.latest()
    if newest is None:
        raise ParameterServerError(f"there is no intact checkpoint below {store.folder}")
    return newest.id


def _path(root: str | None, source: str) -> str:
    """Return the path of what the user calls `source`: an id is looked up below the root."""
    if "/" in source or "\\" in source:
        return source
    if root is None:
        raise ConfigError(
            f"the group has no checkpoint root to look for {source!r} in; give a path "
            f"(./{source} for one in this folder)"
        )
    store = _store(root)
    return (store.folder / (_newest(store) if source == "latest" else source)).place


def _verified(store: CheckpointStore, info: CheckpointInfo) -> CheckpointInfo:
    if info.damage is not None:
        return info
    try:
        store.verify(info.id)
    except ParameterServerError as error:
        return dataclasses.replace(info, damage=str(error))
    return info


def _list(root: str, infos: list[CheckpointInfo]) -> str:
    if not infos:
        return f"there are no checkpoints below {root}"
    heads = ["ID", "TAKEN", "SEQUENCE", "SHARDS", "ROWS", "MIB", "STATE"]
    return table(heads, [_row(info) for info in infos])


def _row(info: CheckpointInfo) -> tuple[Any, ...]:
    if info.kind is None:
        return (info.id, *["-"] * 5, info.damage)
    taken = datetime.datetime.fromtimestamp(info.time_s, datetime.UTC)
    return (
        info.id,
        f"{taken:%Y-%m-%d %H:%M:%S} UTC",
        info.sequence,
        info.num_shards,
        info.rows,
        f"{info.bytes / 2**20:,.1f}",
        "intact" if info.damage is None else info.damage,
    )
