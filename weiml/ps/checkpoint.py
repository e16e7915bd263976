"""Checkpoints: a folder of Arrow files, one per table or vector and shard, and a JSON manifest.

Layout, version 1::

    manifest.json             what there is, with each file's size and SHA-256, and its own checksum
    shard-0/table-NAME.arrow  columns key: uint64, state: fixed_size_list<float32>[width]
    shard-0/vector-NAME.arrow column value: float32, the range start … of the vector

Everything is written aside, flushed to the disk and renamed, so a folder under its final name is
complete. Any number of shards can load it. Knows no processes and no clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weiml.errors import ParameterServerError
from weiml.ps.partition import Partition, vector_range
from weiml.ps.tables import TableConfig

__all__ = [
    "Manifest",
    "ShardImage",
    "ShardRecord",
    "read_image",
    "verify_checkpoint",
    "write_checkpoint",
]

FORMAT = "weiml-ps-checkpoint"
VERSION = 1
MANIFEST = "manifest.json"

Entry = dict[str, Any]
"""One file of the manifest: path, kind, name, shard, rows, bytes, sha256; vectors: start."""


@dataclass(frozen=True, kw_only=True)
class ShardImage:
    """The applied state of one shard, detached from it."""

    index: int
    sequence: int
    tables: dict[str, tuple[TableConfig, np.ndarray, np.ndarray]]
    """name: (configuration, keys (n,), state (n, width))."""
    vectors: dict[str, tuple[int, int, np.ndarray]]
    """name: (length of the whole vector, start of this part, its values)."""

    def write(self, folder: str) -> ShardRecord:
        """Write one file per table and vector below `folder`; return what the manifest needs.

        Raises:
            ParameterServerError: a file could not be written.
        """
        try:
            files = self._write_files(folder)
        except OSError as error:
            raise ParameterServerError(
                f"shard {self.index} could not write its part of a checkpoint to {folder}: {error}"
            ) from None
        return ShardRecord(
            sequence=self.sequence,
            tables=tuple(config for config, _, _ in self.tables.values()),
            vectors={name: length for name, (length, _, _) in self.vectors.items()},
            files=tuple(files),
        )

    def _write_files(self, folder: str) -> list[Entry]:
        entries = []
        place = f"shard-{self.index}"
        (Path(folder) / place).mkdir()
        for name, (_, keys, state) in self.tables.items():
            entry = {"path": f"{place}/table-{name}.arrow", "kind": "table", "name": name}
            entries.append(self._write(folder, entry, _table_columns(keys, state)))
        for name, (_, start, values) in self.vectors.items():
            entry = {"path": f"{place}/vector-{name}.arrow", "kind": "vector", "name": name}
            columns = pa.table({"value": pa.array(values)})
            entries.append(self._write(folder, {**entry, "start": start}, columns))
        return entries

    def _write(self, folder: str, entry: Entry, table: pa.Table) -> Entry:
        path = Path(folder) / entry["path"]
        with open(path, "wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=1 << 20)
            file.flush()
            os.fsync(file.fileno())
        digest, size = _sha256(path)
        about = {"shard": self.index, "rows": table.num_rows, "bytes": size, "sha256": digest}
        return {**entry, **about}


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What one shard has written into a checkpoint."""

    sequence: int
    tables: tuple[TableConfig, ...]
    vectors: dict[str, int]
    files: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint holds."""

    num_shards: int
    num_buckets: int
    sequences: tuple[int, ...]
    """How many pushes each shard had applied."""
    tables: tuple[TableConfig, ...]
    vectors: dict[str, int]
    """name: length."""
    files: tuple[Entry, ...]

    def to_json(self) -> str:
        """Return the manifest with a checksum over everything else in it."""
        body = {
            "format": FORMAT,
            "version": VERSION,
            "num_shards": self.num_shards,
            "num_buckets": self.num_buckets,
            "sequences": list(self.sequences),
            "tables": [table.to_mapping() for table in self.tables],
            "vectors": self.vectors,
            "files": list(self.files),
        }
        return json.dumps({**body, "checksum": _checksum(body)}, indent=2) + "\n"

    def parts(self, kind: str, name: str) -> list[Entry]:
        """Return the files of one table or vector."""
        return [entry for entry in self.files if (entry["kind"], entry["name"]) == (kind, name)]

    @classmethod
    def read(cls, path: str | Path) -> Manifest:
        """Read and check the manifest of the checkpoint folder `path`, not yet its files."""
        file = Path(path) / MANIFEST
        if not file.is_file():
            raise ParameterServerError(
                f"{path} is not a complete checkpoint: it has no {MANIFEST}; load another one"
            )
        try:
            body = json.loads(file.read_text(encoding="utf-8"))
            whole = isinstance(body, dict) and body.pop("checksum", None) == _checksum(body)
        except ValueError:
            whole = False
        if not whole:
            raise _damaged(file, "its checksum does not match its content")
        if (body.get("format"), body.get("version")) != (FORMAT, VERSION):
            raise ParameterServerError(
                f"{file} is of format {body.get('format')!r} version {body.get('version')!r}; "
                f"this release reads {FORMAT!r} version {VERSION}"
            )
        return cls(
            num_shards=body["num_shards"],
            num_buckets=body["num_buckets"],
            sequences=tuple(body["sequences"]),
            tables=tuple(TableConfig.from_mapping(table) for table in body["tables"]),
            vectors=body["vectors"],
            files=tuple(body["files"]),
        )


def write_checkpoint(
    path: str | Path, num_buckets: int, write_shards: Callable[[str], list[ShardRecord]]
) -> None:
    """Let `write_shards` write into a folder aside, add the manifest and rename it to `path`.

    Raises:
        ParameterServerError: `path` exists or cannot be written; nothing is left behind.
    """
    target = Path(path).absolute()
    if target.exists():
        raise ParameterServerError(
            f"checkpoint {target} exists already; give another path, or remove it first"
        )
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        aside.mkdir(parents=True)
        records = write_shards(str(aside))
        _write_manifest(aside, _manifest(records, num_buckets))
        aside.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise ParameterServerError(f"checkpoint {target} could not be written: {error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # already renamed when all went well


def verify_checkpoint(path: str | Path) -> Manifest:
    """Return the manifest after checking the size and SHA-256 of every file it names.

    Raises:
        ParameterServerError: a file is missing or differs; the message names it.
    """
    manifest = Manifest.read(path)
    for entry in manifest.files:
        file = Path(path) / entry["path"]
        if not file.is_file():
            raise _damaged(file, "it is missing")
        digest, size = _sha256(file)
        if size != entry["bytes"]:
            raise _damaged(file, f"it has {size} bytes instead of {entry['bytes']}")
        if digest != entry["sha256"]:
            raise _damaged(
                file, f"its SHA-256 is {digest[:12]}… instead of {entry['sha256'][:12]}…"
            )
    return manifest


def read_image(
    path: str | Path, manifest: Manifest, partition: Partition, index: int
) -> ShardImage:
    """Return the part of a verified checkpoint that shard `index` of `partition` holds."""
    return ShardImage(
        index=index,
        sequence=max(manifest.sequences, default=0),
        tables={
            config.name: (config, *_read_table(Path(path), manifest, config, partition, index))
            for config in manifest.tables
        },
        vectors={
            name: (length, *_read_vector(Path(path), manifest, name, length, partition, index))
            for name, length in manifest.vectors.items()
        },
    )


def _read_table(
    path: Path, manifest: Manifest, config: TableConfig, partition: Partition, index: int
) -> tuple[np.ndarray, np.ndarray]:
    keys = [np.empty(0, np.uint64)]
    rows = [np.empty((0, config.width), np.float32)]
    for entry in manifest.parts("table", config.name):
        if not _may_share_keys(manifest, entry["shard"], partition, index):
            continue
        table = _read_arrow(path / entry["path"])
        theirs = table.column("key").to_numpy()
        flat = table.column("state").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        mine = partition.shards_of(theirs) == index
        keys.append(theirs[mine])
        rows.append(flat.reshape(-1, config.width)[mine])
    return np.concatenate(keys), np.concatenate(rows)


def _may_share_keys(manifest: Manifest, saved: int, partition: Partition, index: int) -> bool:
    """Whether shard `saved` of the checkpoint and shard `index` now have a bucket in common."""
    if manifest.num_buckets != partition.num_buckets:
        return True
    low, high = Partition(manifest.num_shards, manifest.num_buckets).bucket_range(saved)
    first, end = partition.bucket_range(index)
    return low < end and first < high


def _read_vector(
    path: Path, manifest: Manifest, name: str, length: int, partition: Partition, index: int
) -> tuple[int, np.ndarray]:
    low, high = vector_range(length, index, partition.num_shards)
    parts = [np.empty(0, np.float32)]
    for entry in sorted(manifest.parts("vector", name), key=lambda part: int(part["start"])):
        start, rows = entry["start"], entry["rows"]
        first, end = max(low, start), min(high, start + rows)
        if first < end:
            values = _read_arrow(path / entry["path"]).column("value").to_numpy()
            parts.append(values[first - start : end - start])
    return low, np.concatenate(parts)


def _table_columns(keys: np.ndarray, state: np.ndarray) -> pa.Table:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(state.reshape(-1)), state.shape[1])
    return pa.table({"key": pa.array(keys), "state": rows})


def _manifest(records: list[ShardRecord], num_buckets: int) -> Manifest:
    return Manifest(
        num_shards=len(records),
        num_buckets=num_buckets,
        sequences=tuple(record.sequence for record in records),
        tables=records[0].tables,
        vectors=records[0].vectors,
        files=tuple(entry for record in records for entry in record.files),
    )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    with open(folder / MANIFEST, "w", encoding="utf-8") as file:
        file.write(manifest.to_json())
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _sha256(path: Path) -> tuple[str, int]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _damaged(file: Path, why: str) -> ParameterServerError:
    return ParameterServerError(
        f"checkpoint file {file} is damaged: {why}; load another checkpoint"
    )
