"""Reading checkpoints: a full one with the deltas on top, for any buckets, verified on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.checksum import checksum_of
from weiml.ps.checkpoint.columns import VALUES, RowColumns
from weiml.ps.checkpoint.manifest import MANIFEST, FileEntry, Manifest
from weiml.ps.checkpoint.parts import Extras, Rows
from weiml.ps.checkpoint.storage import Folder
from weiml.ps.partition import buckets_of_keys, vector_starts
from weiml.ps.table_config import TableConfig

__all__ = ["Chain", "Checkpoint", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint's folder and manifest."""

    folder: Folder
    manifest: Manifest

    @classmethod
    def open(cls, folder: Folder) -> Checkpoint:
        """Read and check the manifest, not yet the files.

        Raises:
            ParameterServerError: there is none, or it is damaged or of another version.
        """
        if not folder.exists(MANIFEST):
            raise ParameterServerError(
                f"{folder} is not a complete checkpoint: it has no {MANIFEST}; load another one"
            )
        content = bytes(folder.read(MANIFEST))
        return cls(folder, Manifest.from_json(content, folder.path_of(MANIFEST)))

    def read(self, entry: FileEntry) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a file after checking its size and checksum.

        Raises:
            ParameterServerError: it is missing or damaged; the message names it.
        """
        reader = pa.ipc.open_file(pa.py_buffer(self.content(entry)))
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)

    def content(self, entry: FileEntry) -> memoryview:
        """Return the bytes of a file after checking their number and checksum."""
        place = self.folder.path_of(entry.path)
        try:
            content = self.folder.read(entry.path)
        except ParameterServerError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _damaged(place, "it is missing") from None
            raise
        if len(content) != entry.bytes:
            raise _damaged(place, f"it has {len(content)} bytes instead of {entry.bytes}")
        digest = checksum_of(content)
        if digest != entry.xxh64:
            raise _damaged(place, f"its XXH64 is {digest} instead of {entry.xxh64}")
        return content

    def check_sizes(self) -> None:
        """Check that every file is there and has its size, from the folder's listing.

        Raises:
            ParameterServerError: one is not; the message names it.
        """
        sizes = self.folder.sizes()
        for entry in self.manifest.files:
            place, size = self.folder.path_of(entry.path), sizes.get(entry.path)
            if size is None:
                raise _damaged(place, "it is missing")
            if size != entry.bytes:
                raise _damaged(place, f"it has {size} bytes instead of {entry.bytes}")

    def verify(self) -> None:
        """Check every file by its checksum.

        Raises:
            ParameterServerError: one is missing or damaged; the message names it.
        """
        for entry in self.manifest.files:
            self.content(entry)


@dataclass(frozen=True)
class Chain:
    """A full checkpoint and the deltas up to the one asked for. Plain data, fit to be sent."""

    checkpoints: tuple[Checkpoint, ...]

    @property
    def newest(self) -> Manifest:
        """The manifest of the last one, which says what there is."""
        return self.checkpoints[-1].manifest

    @property
    def place(self) -> str:
        """Path or URL of the last one."""
        return self.checkpoints[-1].folder.place

    @property
    def tables(self) -> tuple[TableConfig, ...]:
        """The tables as of the last one."""
        return self.newest.tables

    @property
    def vectors(self) -> dict[str, int]:
        """name: length, as of the last one."""
        return self.newest.vectors

    def verify(self) -> None:
        """Check every file of all; raises ParameterServerError, which names the first bad one."""
        for checkpoint in self.checkpoints:
            checkpoint.verify()

    def rows(
        self,
        buckets: np.ndarray | None = None,
        num_buckets: int | None = None,
        *,
        tables: Collection[str] | None = None,
    ) -> Iterator[Rows]:
        """Yield the rows that lie in `buckets` of `num_buckets` (any number of them; None: all).

        In order: what comes later overrides what came before, and keys without payload are to be
        deleted. A file's content is verified before any of it is given out. Arrays may be
        read-only views of the file.

        Raises:
            ParameterServerError: a file is missing or damaged; what was given out is worthless.
        """
        wanted = _Wanted(buckets, num_buckets or self.newest.num_buckets)
        known = {config.name: config for config in self.tables}
        chosen = {n: c for n, c in known.items() if tables is None or n in tables}
        for checkpoint in self.checkpoints:
            theirs = checkpoint.manifest.num_buckets
            for entry in checkpoint.manifest.files:
                if entry.kind not in ("rows", "deleted") or entry.name not in chosen:
                    continue
                if wanted.may_be_in(entry, theirs):
                    for batch in checkpoint.read(entry):
                        found = wanted.rows(entry, chosen[entry.name], batch)
                        if len(found.keys):
                            yield found

    def vector_values(
        self, buckets: np.ndarray | None = None, num_buckets: int | None = None
    ) -> dict[str, np.ndarray]:
        """Return each vector's numbers in `buckets` (ascending): float32, in bucket order.

        Raises:
            ParameterServerError: a file is missing or damaged, or no file has some numbers.
        """
        number = num_buckets or self.newest.num_buckets
        chosen = np.arange(number) if buckets is None else np.asarray(buckets, np.int64)
        return {
            name: self._vector(name, length, _ranges(length, number, chosen))
            for name, length in self.vectors.items()
        }

    def _vector(self, name: str, length: int, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        out = np.empty(sum(stop - start for start, stop in ranges), np.float32)
        seen = np.zeros(len(out), bool)
        for checkpoint in self.checkpoints:
            if checkpoint.manifest.vectors.get(name) != length:
                continue  # an earlier vector of that name
            for entry in checkpoint.manifest.files:
                if entry.kind == "vector" and entry.name == name and _meet(entry, ranges):
                    _copy(checkpoint, entry, ranges, out, seen)
        if not seen.all():
            raise ParameterServerError(
                f"checkpoint {self.place} lacks {np.count_nonzero(~seen)} numbers of vector "
                f"{name!r}; load another checkpoint"
            )
        return out

    def extras(
        self, buckets: np.ndarray | None = None, num_buckets: int | None = None
    ) -> Iterator[Extras]:
        """Yield the extra arrays of every saved shard that held some of `buckets`.

        In order: those of a delta come after those of what it goes on from.

        Raises:
            ParameterServerError: a file is missing or damaged.
        """
        wanted = _Wanted(buckets, num_buckets or self.newest.num_buckets)
        names = {config.name for config in self.tables}
        for checkpoint in self.checkpoints:
            manifest = checkpoint.manifest
            found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
            for entry in manifest.files:
                if entry.kind != "extra" or entry.name not in names:
                    continue
                if wanted.any_of(manifest.shards[entry.shard].held, manifest.num_buckets):
                    arrays = found.setdefault((entry.name, entry.shard), {})
                    arrays[str(entry.array)] = _array(checkpoint, entry)
            for (name, shard), arrays in found.items():
                yield Extras(name, shard, manifest.shards[shard].held, arrays)


def open_checkpoint(place: str | Path) -> Chain:
    """Open the checkpoint at a path or URL, with the ones beside it that it goes on from.

    Raises:
        ParameterServerError: it, or one it needs, is missing, damaged or of another version.
    """
    links = [Checkpoint.open(Folder.at(place))]
    while (manifest := links[0].manifest).parent is not None:
        folder = links[0].folder
        try:
            before = Checkpoint.open(folder.parent / manifest.parent)
        except ParameterServerError as error:
            raise ParameterServerError(
                f"checkpoint {folder} goes on from {manifest.parent}, which cannot be used: {error}"
            ) from error
        if before.manifest.checksum != manifest.parent_checksum:
            raise ParameterServerError(
                f"checkpoint {folder} goes on from another {manifest.parent} than the one that is "
                f"there now; load a full checkpoint"
            )
        links.insert(0, before)
    return Chain(tuple(links))


class _Wanted:
    """The buckets that a reader asks for, against files and keys."""

    def __init__(self, buckets: np.ndarray | None, num_buckets: int) -> None:
        self.num_buckets = num_buckets
        self.mask = None
        if buckets is not None and len(np.unique(buckets)) < num_buckets:
            self.mask = np.zeros(num_buckets, bool)
            self.mask[buckets] = True

    def may_be_in(self, entry: FileEntry, theirs: int) -> bool:
        """Whether a file, whose writer had `theirs` buckets, can hold something wanted."""
        if self.mask is None or entry.buckets is None:
            return True
        # Buckets are runs of the hash, so those of one number of them nest in those of another.
        first, last = entry.buckets
        mine = self.num_buckets
        return bool(self.mask[first * mine // theirs : _stop(last, theirs, mine)].any())

    def any_of(self, held: np.ndarray, theirs: int) -> bool:
        """Whether some of the buckets `held`, of `theirs`, reach into one that is wanted."""
        if self.mask is None:
            return True
        mine = self.num_buckets
        runs = ((int(b) * mine // theirs, _stop(int(b), theirs, mine)) for b in held)
        return any(self.mask[first:stop].any() for first, stop in runs)

    def rows(self, entry: FileEntry, config: TableConfig, batch: pa.RecordBatch) -> Rows:
        """Return the wanted ones of a batch."""
        payload: np.ndarray | None = None
        if entry.kind == "rows":
            keys, payload = RowColumns(config).rows(batch)
        else:
            keys = batch.column("key").to_numpy()
        if self.mask is not None:
            mine = self.mask[buckets_of_keys(keys, self.num_buckets, config.rows)]
            if not mine.all():
                keys = keys[mine]
                payload = None if payload is None else payload[mine]
        return Rows(config, keys, payload)


def _stop(bucket: int, theirs: int, mine: int) -> int:
    return -(-(bucket + 1) * mine // theirs)


def _ranges(length: int, num_buckets: int, buckets: np.ndarray) -> list[tuple[int, int]]:
    """Return the ranges of a vector that lie in `buckets`, in their order."""
    starts = vector_starts(length, num_buckets)
    pairs = zip(starts[buckets].tolist(), starts[buckets + 1].tolist(), strict=True)
    joined: list[tuple[int, int]] = []
    for start, stop in pairs:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        elif stop > start:
            joined.append((start, stop))
    return joined


def _meet(entry: FileEntry, ranges: Sequence[tuple[int, int]]) -> bool:
    theirs = entry.ranges or ()
    return any(a < stop and start < b for a, b in theirs for start, stop in ranges)


def _copy(
    checkpoint: Checkpoint,
    entry: FileEntry,
    ranges: Sequence[tuple[int, int]],
    out: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Copy what a file has of `ranges` to its places in `out`, which holds them one by one."""
    values = _values(checkpoint, entry)
    at = 0
    for a, b in entry.ranges or ():
        to = 0
        for start, stop in ranges:
            low, high = max(a, start), min(b, stop)
            if low < high:
                target = slice(to + low - start, to + high - start)
                out[target] = values[at + low - a : at + high - a]
                seen[target] = True
            to += stop - start
        at += b - a


def _values(checkpoint: Checkpoint, entry: FileEntry) -> np.ndarray:
    batches = list(checkpoint.read(entry))
    return np.concatenate([batch.column(VALUES).to_numpy() for batch in batches])


def _array(checkpoint: Checkpoint, entry: FileEntry) -> np.ndarray:
    dtype: Any = np.dtype(str(entry.dtype))
    return _values(checkpoint, entry).view(dtype).reshape(entry.shape)


def _damaged(place: str, why: str) -> ParameterServerError:
    return ParameterServerError(
        f"checkpoint file {place} is damaged: {why}; load another checkpoint"
    )
