"""Reading checkpoints: a full one with the deltas on top, for any buckets, verified on the way."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.checksum import Checksum, checksum_of
from weiml.ps.checkpoint.columns import VALUES
from weiml.ps.checkpoint.direct import DIRECT_BYTES, Rooms, is_cached, pieces_of
from weiml.ps.checkpoint.manifest import MANIFEST, FileEntry, Manifest
from weiml.ps.checkpoint.parts import Extras, Rows
from weiml.ps.checkpoint.selection import Selection
from weiml.ps.checkpoint.storage import Folder, failing
from weiml.ps.tables.config import TableConfig

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
            wrong = (
                f"is not a complete checkpoint: it has no {MANIFEST}"
                if folder.exists()
                else "does not exist"
            )
            beside = [name for name in folder.parent.folders() if name != folder.name]
            advice = f"beside it lie {', '.join(beside[-3:])}" if beside else "load another one"
            raise ParameterServerError(f"checkpoint {folder} {wrong}; {advice}")
        content = bytes(folder.read(MANIFEST))
        return cls(folder, Manifest.from_json(content, folder.path_of(MANIFEST)))

    def content(self, entry: FileEntry, rooms: Rooms | None = None) -> memoryview:
        """Return the bytes of a file after checking their number and checksum.

        With `rooms` they may lie in one of these.
        """
        place = self.folder.path_of(entry.path)
        try:
            content, digest = self._read(entry, rooms)
        except ParameterServerError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _damaged(place, "it is missing") from None
            raise
        if len(content) != entry.bytes:
            raise _damaged(place, f"it has {len(content)} bytes instead of {entry.bytes}")
        if digest != entry.xxh64:
            raise _damaged(place, f"its XXH64 is {digest} instead of {entry.xxh64}")
        return content

    def _read(self, entry: FileEntry, rooms: Rooms | None) -> tuple[memoryview, str]:
        """Return a file's content and its checksum."""
        place = self.folder.path_of(entry.path)
        if rooms is not None and entry.bytes >= DIRECT_BYTES and self.folder.is_local:
            with failing(place, "read"):
                if os.path.getsize(place) == entry.bytes and not is_cached(place):
                    return _directly(place, rooms.take(entry.bytes))
        content = self.folder.read(entry.path)
        return content, checksum_of(content)

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
        read-only views of the file, which forked children must not touch: copy what they need.

        Raises:
            ParameterServerError: a file is missing or damaged; what was given out is worthless.
        """
        wanted = Selection(buckets, num_buckets or self.newest.num_buckets)
        known = {config.name: config for config in self.tables}
        chosen = {n: c for n, c in known.items() if tables is None or n in tables}
        files = [
            (checkpoint, entry)
            for checkpoint in self.checkpoints
            for entry in checkpoint.manifest.files
            if entry.kind in ("rows", "deleted")
            and entry.name in chosen
            and wanted.may_be_in(entry, checkpoint.manifest.num_buckets)
        ]
        for checkpoint, entry, content in _read_ahead(files):
            whole = wanted.has_all_of(entry, checkpoint.manifest.num_buckets)
            yield from _rows_in(content, wanted, entry, chosen[entry.name], whole=whole)
            del content  # what refers to it keeps the next file from being read to its place

    def expected_rows(
        self, buckets: np.ndarray | None = None, num_buckets: int | None = None
    ) -> dict[str, np.ndarray]:
        """Return about how many rows of each table the full checkpoint has in each bucket.

        ``{table: float64 (num_buckets,)}``, 0 outside `buckets`. It is judged by the manifest as if
        rows were spread evenly over the buckets of the shard that wrote them.
        """
        wanted = Selection(buckets, num_buckets or self.newest.num_buckets)
        manifest = self.checkpoints[0].manifest
        written = manifest.rows_by_writer()
        places = [(shard.index, shard.held) for shard in manifest.shards]
        rows: dict[str, np.ndarray] = {}
        for config in self.tables:
            spread = np.zeros(manifest.num_buckets)
            for shard, held in places:
                spread[held] = written.get((config.name, shard), 0) / max(len(held), 1)
            rows[config.name] = wanted.spread(spread)
        return rows

    def vector_values(
        self, buckets: np.ndarray | None = None, num_buckets: int | None = None
    ) -> dict[str, np.ndarray]:
        """Return each vector's numbers in `buckets` (ascending): float32, in bucket order.

        Raises:
            ParameterServerError: a file is missing or damaged, or no file has some numbers.
        """
        wanted = Selection(buckets, num_buckets or self.newest.num_buckets)
        return {
            name: self._vector(name, length, wanted.ranges(length))
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

    def arrays(self, shard: int) -> dict[str, np.ndarray]:
        """Return what a saved shard gave the last checkpoint beside its control.

        Raises:
            ParameterServerError: a file is missing or damaged.
        """
        newest = self.checkpoints[-1]
        return {
            str(entry.array): _array(newest, entry)
            for entry in newest.manifest.files
            if entry.kind == "control" and entry.shard == shard
        }

    def extras(
        self, buckets: np.ndarray | None = None, num_buckets: int | None = None
    ) -> Iterator[Extras]:
        """Yield the extra arrays of every saved shard that held some of `buckets`.

        In order: those of a delta come after those of what it goes on from.

        Raises:
            ParameterServerError: a file is missing or damaged.
        """
        wanted = Selection(buckets, num_buckets or self.newest.num_buckets)
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


def _read_ahead(
    files: Iterable[tuple[Checkpoint, FileEntry]],
) -> Iterator[tuple[Checkpoint, FileEntry, memoryview]]:
    """Yield each file's verified content, while a thread reads and verifies the next.

    The memory of one that is not referred to any more when the next is asked for is used again.
    """
    rooms = Rooms()
    with ThreadPoolExecutor(1, thread_name_prefix="checkpoint-read") as pool:
        before: tuple[Checkpoint, FileEntry, Future[memoryview]] | None = None
        for checkpoint, entry in files:
            following = pool.submit(checkpoint.content, entry, rooms)
            if before is not None:
                yield before[0], before[1], before[2].result()
            before = checkpoint, entry, following
        if before is not None:
            yield before[0], before[1], before[2].result()


def _directly(place: str, room: memoryview) -> tuple[memoryview, str]:
    """Read a file into `room`; return its content there and its checksum."""
    checksum = Checksum()
    for piece in pieces_of(place, room):
        checksum.update(piece)
    return room[: checksum.length], checksum.hexdigest()


def _batches(content: memoryview) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(pa.py_buffer(content))
    for i in range(reader.num_record_batches):
        yield reader.get_batch(i)


def _rows_in(
    content: memoryview, wanted: Selection, entry: FileEntry, config: TableConfig, *, whole: bool
) -> Iterator[Rows]:
    for batch in _batches(content):
        found = wanted.rows(entry, config, batch, whole=whole)
        if len(found.keys):
            yield found
        del found


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
    batches = _batches(checkpoint.content(entry))
    return np.concatenate([batch.column(VALUES).to_numpy() for batch in batches])


def _array(checkpoint: Checkpoint, entry: FileEntry) -> np.ndarray:
    dtype: Any = np.dtype(str(entry.dtype))
    return _values(checkpoint, entry).view(dtype).reshape(entry.shape)


def _damaged(place: str, why: str) -> ParameterServerError:
    return ParameterServerError(
        f"checkpoint file {place} is damaged: {why}; load another checkpoint"
    )
