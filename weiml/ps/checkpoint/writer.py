"""Writing a checkpoint: a coordinator opens it, shards write their parts, and it is committed.

Until the manifest is in its place there is no checkpoint. Locally everything is written aside and
the folder renamed; elsewhere files lie below a name of their own and the manifest comes last.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.manifest import MANIFEST, Kind, Manifest
from weiml.ps.checkpoint.parts import ShardRecord
from weiml.ps.checkpoint.storage import Folder
from weiml.ps.tables.config import TableConfig

__all__ = ["PART_BYTES", "CheckpointSpec", "CheckpointWriter", "write_checkpoint"]

PART_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """Where and how shards write their parts; travels to them."""

    folder: Folder
    prefix: str
    """Of all files' paths in the folder."""
    kind: Kind
    num_buckets: int
    part_bytes: int
    """A file that has reached this size is followed by another."""
    bases: tuple[int, ...] | None
    """Of a delta: each shard's sequence number in the parent."""

    def base(self, shard: int) -> int | None:
        """Return the sequence number that a shard's delta starts at; None: everything is wanted."""
        return None if self.bases is None else self.bases[shard]


class CheckpointWriter:
    """One checkpoint being written. Leaving the ``with`` block without `commit` removes it.

    Args:
        place: path or URL of the checkpoint's folder, which must not exist.
        num_buckets: of the group.
        time_s: now, in seconds since 1970.
        parent: manifest of the checkpoint that this is a delta to, a folder beside this one.
        about: plain data to find again.
        part_bytes: where files are cut.

    Raises:
        ParameterServerError: the folder exists, or cannot be made.
    """

    def __init__(
        self,
        place: str | Path,
        *,
        num_buckets: int,
        time_s: float,
        parent: Manifest | None = None,
        about: Mapping[str, Any] | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.folder = Folder.at(place)
        self._parent = parent
        self._time_s = time_s
        self._about = dict(about or {})
        self._check_is_new()
        local = self.folder.is_local
        self.spec = CheckpointSpec(
            folder=self.folder.hidden() if local else self.folder,
            prefix="" if local else f"{uuid.uuid4().hex[:8]}/",
            kind="full" if parent is None else "delta",
            num_buckets=num_buckets,
            part_bytes=part_bytes,
            bases=None if parent is None else parent.sequences,
        )
        self._open = True
        self._aside = self.spec.folder if local else self.folder / self.spec.prefix.rstrip("/")
        self._aside.make()

    def commit(self, records: Sequence[ShardRecord]) -> Manifest:
        """Make the checkpoint of what all shards have written; it appears whole.

        Raises:
            ParameterServerError: the parts do not make a whole, a file is not there, or the
                manifest cannot be written.
        """
        manifest = self._manifest(sorted(records, key=lambda record: record.shard.index))
        self._check_files(manifest)
        self._check_is_new()
        self.spec.folder.write(MANIFEST, manifest.to_json())
        if self.folder.is_local:
            self.spec.folder.sync()
            self.spec.folder.rename(self.folder)
            self.folder.parent.sync()
        self._open = False
        return manifest

    def abort(self) -> None:
        """Remove what was written, unless it is committed; idempotent.

        What a shard that is still writing leaves behind on an object store,
        `CheckpointStore.remove_unfinished` removes.
        """
        if not self._open:
            return
        self._open = False
        gone = self._aside
        if self.folder.is_local:
            # Nothing can be added under the old name any more.
            gone = self.folder.hidden()
            self._aside.rename(gone)
        gone.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.abort()
        except ParameterServerError:
            if error is None:
                raise

    def _check_is_new(self) -> None:
        if self.folder.exists("" if self.folder.is_local else MANIFEST):
            raise ParameterServerError(
                f"checkpoint {self.folder} exists already; give another path, or remove it first"
            )

    def _manifest(self, records: Sequence[ShardRecord]) -> Manifest:
        _check_shards(self.folder, [record.shard.index for record in records])
        _check_buckets(self.folder, records, self.spec.num_buckets)
        if self._parent is not None:
            _check_continues(self.folder, records, self._parent)
        # A vector that some shard lacks was being made, or dropped, at the cut.
        vectors = {
            name: length
            for name, length in records[0].vectors.items()
            if all(record.vectors.get(name) == length for record in records)
        }
        files = [entry for record in records for entry in record.files]
        parent = self._parent
        return Manifest(
            id=self.folder.name,
            kind=self.spec.kind,
            time_s=self._time_s,
            parent=None if parent is None else parent.id,
            parent_checksum=None if parent is None else parent.checksum,
            num_buckets=self.spec.num_buckets,
            shards=tuple(record.shard for record in records),
            table_mappings=tuple(
                config.to_mapping() for config in _tables(self.folder, records, parent)
            ),
            vectors=vectors,
            about=self._about,
            files=tuple(e for e in files if e.kind != "vector" or e.name in vectors),
        )

    def _check_files(self, manifest: Manifest) -> None:
        sizes = self.spec.folder.sizes()
        for entry in manifest.files:
            if sizes.get(entry.path) != entry.bytes:
                raise ParameterServerError(
                    f"checkpoint {self.folder}: shard {entry.shard} wrote {entry.path} with "
                    f"{entry.bytes} bytes, but here it has {sizes.get(entry.path, 'none')}; shards "
                    f"in several processes and machines need storage that all of them share"
                )


def write_checkpoint(
    place: str | Path,
    write_shards: Callable[[CheckpointSpec], Sequence[ShardRecord]],
    *,
    num_buckets: int,
    time_s: float,
) -> Manifest:
    """Write a full checkpoint at exactly this path or URL; see `CheckpointWriter`.

    `write_shards` has every shard write its part and returns their records.
    """
    with CheckpointWriter(place, num_buckets=num_buckets, time_s=time_s) as writer:
        return writer.commit(write_shards(writer.spec))


def _check_shards(folder: Folder, indices: list[int]) -> None:
    if not indices or indices != list(range(len(indices))):
        raise ParameterServerError(
            f"checkpoint {folder} needs the part of every shard from 0 on, once; got {indices}"
        )


def _check_buckets(folder: Folder, records: Sequence[ShardRecord], num_buckets: int) -> None:
    held = np.concatenate([record.shard.held for record in records])
    times = np.bincount(held, minlength=num_buckets)
    wrong = np.flatnonzero(times != 1)
    if wrong.size:
        raise ParameterServerError(
            f"checkpoint {folder}: bucket {wrong[0]} is held by {times[wrong[0]]} of "
            f"{len(records)} shards; buckets must not move while a checkpoint is taken"
        )


def _check_continues(folder: Folder, records: Sequence[ShardRecord], parent: Manifest) -> None:
    bases = tuple(record.shard.base for record in records)
    buckets = [record.shard.buckets for record in records]
    if bases != parent.sequences or buckets != [shard.buckets for shard in parent.shards]:
        raise ParameterServerError(
            f"checkpoint {folder} does not go on where its parent {parent.id} ends: it has changes "
            f"since {list(bases)} of shards that the parent has up to {list(parent.sequences)}, or "
            f"other buckets of them; write a full checkpoint"
        )


def _tables(
    folder: Folder, records: Sequence[ShardRecord], parent: Manifest | None
) -> list[TableConfig]:
    """Return the tables of all shards: one that was being made at the cut has no rows elsewhere."""
    known = {} if parent is None else {config.name: config for config in parent.tables}
    tables: dict[str, TableConfig] = {}
    for config in (config for record in records for config in record.tables):
        for other in (tables.get(config.name), known.get(config.name)):
            if other not in (None, config):
                raise ParameterServerError(
                    f"checkpoint {folder}: table {config.name!r} is {config} here and {other} on "
                    f"another shard or in the parent; write a full checkpoint of equal tables"
                )
        tables[config.name] = config
    return list(tables.values())
