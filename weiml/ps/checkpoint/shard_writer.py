"""Writing one shard's part of a checkpoint, chunk by chunk, in one pass; knows no other shard."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.columns import VALUES, RowColumns, values_batch
from weiml.ps.checkpoint.files import ArrowParts, Part, Span, Syncer
from weiml.ps.checkpoint.manifest import FileEntry, FileKind, ShardEntry
from weiml.ps.checkpoint.parts import RowsChunk, ShardPart, ShardRecord, TablePart, VectorSlices
from weiml.ps.checkpoint.writer import CheckpointSpec
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.config import TableConfig

__all__ = ["write_shard"]

_BLOCK_BYTES = 1 << 20
_LOCAL_SYNCS = 1  # a disk gains nothing by more
_UPLOADS = 4


def write_shard(spec: CheckpointSpec, part: ShardPart) -> ShardRecord:
    """Write what `part` yields below `spec.folder`; return what `CheckpointWriter.commit` needs.

    Memory is bounded by the chunks. Call it once a shard; on an error the checkpoint is to be
    aborted.

    Raises:
        ParameterServerError: a file could not be written; the message names it.
    """
    with (
        Syncer(_LOCAL_SYNCS if spec.folder.is_local else _UPLOADS) as syncer,
        contextlib.ExitStack() as held,  # one that cannot be closed does not keep the others open
    ):
        # In this thread and at once: what a failed part holds may need its shard to be let go.
        for table in part.tables:
            if hasattr(table.chunks, "close"):
                held.callback(table.chunks.close)
        return _ShardWriter(spec, part, syncer).write()


class _ShardWriter:
    def __init__(self, spec: CheckpointSpec, part: ShardPart, syncer: Syncer) -> None:
        self.spec = spec
        self.part = part
        self.place = f"{spec.prefix}shard-{part.index:05d}"
        if spec.folder.is_local and spec.folder.exists(self.place):
            # What a process wrote that died meanwhile, or may still write: not to be mixed with.
            self.place += f"-{uuid.uuid4().hex[:8]}"
        self.held = np.zeros(spec.num_buckets, bool)
        self.held[part.buckets] = True
        self.syncer = syncer
        self.entries: list[FileEntry] = []

    def write(self) -> ShardRecord:
        part = self.part
        entry = ShardEntry(
            index=part.index,
            sequence=part.sequence,
            base=part.base,
            buckets=tuple(_runs(np.flatnonzero(self.held))),
            control=json.loads(json.dumps(dict(part.control))),
        )
        self.spec.folder.make_child(self.place)
        configs = []
        for table in part.tables:
            configs.append(table.config)
            self._table(table)
        for name, vector in part.vectors.items():
            self._vector(name, vector)
        for name, array in part.arrays.items():
            self._array("control", name, name, np.asarray(array))
        self.syncer.finish()
        self.spec.folder.sync(self.place)
        return ShardRecord(
            shard=entry,
            tables=tuple(configs),
            vectors={name: vector.length for name, vector in part.vectors.items()},
            files=tuple(self.entries),
        )

    def _table(self, table: TablePart) -> None:
        config, columns = table.config, RowColumns(table.config)
        block = max(1, _BLOCK_BYTES // (8 + 4 * config.payload_words))
        with self._parts("rows", config.name, columns.schema) as rows:
            for keys, payload in _blocks(table.chunks, block):
                self._check(config, keys, payload)
                own, span = self._own(keys, config)
                if own is not None:
                    keys, payload = keys[own], payload[own]
                if len(keys):
                    rows.add(columns.batch(keys, payload), span)
        with self._parts("deleted", config.name, pa.schema([("key", pa.uint64())])) as deleted:
            gone = table.deleted()
            for start in range(0, len(gone), _BLOCK_BYTES // 8):
                keys = gone[start : start + _BLOCK_BYTES // 8]
                own, span = self._own(keys, config)
                keys = keys if own is None else keys[own]
                if len(keys):
                    deleted.add(values_batch(keys, "key"), span)
        for i, (name, array) in enumerate(table.extras.items()):
            self._array("extra", f"{config.name}-{i}", name, np.asarray(array), config.name)

    def _vector(self, name: str, vector: VectorSlices) -> None:
        with self._parts("vector", name, pa.schema([(VALUES, pa.float32())])) as parts:
            for start, values in vector.slices:
                for at in range(0, len(values), _BLOCK_BYTES // 4):
                    piece = np.asarray(values[at : at + _BLOCK_BYTES // 4], np.float32)
                    parts.add(values_batch(piece), (start + at, start + at + len(piece)))

    def _array(
        self, kind: FileKind, stem: str, name: str, array: np.ndarray, table: str | None = None
    ) -> None:
        # Arrow has no fixed width for booleans.
        flat = array.reshape(-1).view(np.uint8) if array.dtype == bool else array.reshape(-1)
        about = {
            "name": table or name,
            "array": name,
            "dtype": array.dtype.str,
            "shape": array.shape,
        }
        with self._parts(kind, stem, values_batch(flat[:0]).schema, about) as parts:
            for at in range(0, max(flat.size, 1), _BLOCK_BYTES // 4):
                parts.add(values_batch(flat[at : at + _BLOCK_BYTES // 4]))

    def _parts(
        self, kind: FileKind, stem: str, schema: pa.Schema, about: Mapping[str, Any] | None = None
    ) -> ArrowParts:
        """Return what batches of one kind go into; `stem` is the table's or vector's name."""

        def record(part: Part) -> None:
            facts = {"name": stem, **_span(kind, part.spans), **(about or {})}
            self.entries.append(
                FileEntry(
                    path=part.name,
                    kind=kind,
                    shard=self.part.index,
                    rows=part.rows,
                    bytes=part.bytes,
                    xxh64=part.checksum,
                    **facts,
                )
            )

        return ArrowParts(
            folder=self.spec.folder,
            stem=f"{self.place}/{kind}-{stem}",
            schema=schema,
            # An array is read whole.
            part_bytes=None if kind in ("extra", "control") else self.spec.part_bytes,
            syncer=self.syncer,
            record=record,
        )

    def _own(self, keys: np.ndarray, config: TableConfig) -> tuple[np.ndarray | None, Span]:
        """Return which keys lie in held buckets (None: all), and the outermost of those buckets."""
        buckets = buckets_of_keys(keys, self.spec.num_buckets, config.rows)
        low, high, count = _outermost(buckets, self.held)
        return None if count == len(keys) else self.held[buckets], (low, high)

    def _check(self, config: TableConfig, keys: np.ndarray, payload: np.ndarray) -> None:
        wanted = (len(keys), config.payload_words)
        if keys.dtype != np.uint64 or payload.dtype != np.uint32 or payload.shape != wanted:
            raise ParameterServerError(
                f"checkpoint part of shard {self.part.index}, table {config.name!r}: a chunk must "
                f"be keys uint64 (n,) and payload uint32 {wanted}, got {keys.dtype} {keys.shape} "
                f"and {payload.dtype} {payload.shape}"
            )


@numba.njit(cache=True, nogil=True)
def _outermost(buckets: np.ndarray, held: np.ndarray) -> tuple[int, int, int]:
    """Return the lowest and the highest held bucket among `buckets`, and how many are held."""
    low, high, count = held.size, -1, 0
    for i in range(buckets.size):
        bucket = buckets[i]
        if held[bucket]:
            low = min(low, bucket)
            high = max(high, bucket)
            count += 1
    return low, high, count


def _blocks(chunks: Iterable[RowsChunk], rows: int) -> Iterator[RowsChunk]:
    """Cut big chunks and join small ones: all blocks but the last have rows / 2 … 3 / 2 rows."""
    held: list[RowsChunk] = []
    count = 0
    for keys, payload in chunks:
        for start in range(0, len(keys), rows):
            piece = keys[start : start + rows], payload[start : start + rows]
            held.append(piece)
            count += len(piece[0])
            if count >= rows // 2:
                yield _concatenated(held)
                held, count = [], 0
    if held:
        yield _concatenated(held)


def _concatenated(pieces: list[RowsChunk]) -> RowsChunk:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([keys for keys, _ in pieces]), np.concatenate([p for _, p in pieces])


def _runs(buckets: np.ndarray) -> list[Span]:
    """Return the runs (first, stop) of ascending numbers."""
    starts = np.flatnonzero(np.diff(buckets, prepend=-2) != 1)
    stops = np.append(starts[1:], len(buckets))
    return [
        (int(buckets[a]), int(buckets[b - 1]) + 1) for a, b in zip(starts, stops, strict=False) if b
    ]


def _span(kind: FileKind, spans: list[Span]) -> dict[str, Any]:
    """Return what the manifest says of where a file's content lies."""
    if kind in ("extra", "control"):
        return {}
    if kind == "vector":
        return {"ranges": tuple(_joined(spans))}
    return {"buckets": (min(low for low, _ in spans), max(high for _, high in spans))}


def _joined(spans: list[Span]) -> Iterator[Span]:
    """Join ranges (start, stop) that follow each other."""
    start, stop = spans[0]
    for a, b in spans[1:]:
        if a != stop:
            yield start, stop
            start = a
        stop = b
    yield start, stop
