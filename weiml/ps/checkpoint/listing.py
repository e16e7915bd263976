"""What a store's list says of a checkpoint, and which of a list stay when the oldest go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from weiml.ps.checkpoint.manifest import Kind

__all__ = ["CheckpointInfo", "kept_ids"]


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """One checkpoint of a store, as listed; if its manifest is damaged, only `id` and `damage`."""

    id: str
    kind: Kind | None = None
    time_s: float = 0.0
    """When it was taken, in seconds since 1970."""
    parent: str | None = None
    sequence: int = 0
    """The sum of the shards' sequence numbers."""
    num_shards: int = 0
    rows: int = 0
    """Rows in its own files."""
    bytes: int = 0
    damage: str | None = None
    """Why it cannot be used, as far as manifests and sizes tell; None: it can."""


def kept_ids(
    listed: Sequence[CheckpointInfo], fulls: int, in_use: Collection[str] = ()
) -> Collection[str]:
    """Return the ids that stay, of a list that is sorted by time; see `CheckpointStore.retain`."""
    infos = {info.id: info for info in listed}
    usable = [info for info in listed if info.damage is None]
    if not usable:
        return infos.keys()
    oldest = [info.id for info in usable if info.kind == "full"][-fulls:][0]
    kept: set[str] = set()
    for name in (usable[-1].id, *in_use):
        kept |= _ancestry(name, infos)
    for name, info in infos.items():
        root = _root(name, infos)
        if name >= oldest and (info.damage is not None or root is None or root >= oldest):
            kept.add(name)
    return kept


def _root(name: str, infos: Mapping[str, CheckpointInfo]) -> str | None:
    """Return the full checkpoint that `name` goes back to; None if the way is broken."""
    info = infos.get(name)
    while info is not None and info.parent is not None:
        info = infos.get(info.parent)
    return None if info is None or info.kind != "full" else info.id


def _ancestry(name: str, infos: Mapping[str, CheckpointInfo]) -> set[str]:
    found = set()
    info = infos.get(name)
    while info is not None:
        found.add(info.id)
        info = infos.get(info.parent) if info.parent is not None else None
    return found
