"""What a checkpoint holds, as its ``manifest.json`` says: shards, tables, vectors and files."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.tables.config import TableConfig

__all__ = [
    "FORMAT",
    "MANIFEST",
    "VERSION",
    "FileEntry",
    "FileKind",
    "Kind",
    "Manifest",
    "ShardEntry",
]

FORMAT = "weiml-ps-checkpoint"
VERSION = 2
MANIFEST = "manifest.json"

Kind: TypeAlias = Literal["full", "delta"]
FileKind: TypeAlias = Literal["rows", "deleted", "vector", "extra", "control"]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a checkpoint."""

    path: str
    """Relative to the checkpoint's folder."""
    kind: FileKind
    name: str
    """Of the table or vector; of an array beside the control, its own."""
    shard: int
    rows: int
    """Rows, keys or numbers in it."""
    bytes: int
    xxh64: str
    """Checksum of the whole file: XXH64, 16 hexadecimal digits."""
    buckets: tuple[int, int] | None = None
    """Rows and deleted keys: the lowest and the highest bucket that one lies in."""
    ranges: tuple[tuple[int, int], ...] | None = None
    """Vectors: where (start, stop) the numbers stand in the whole, in their order."""
    array: str | None = None
    """Extras and control: the name of the array, …"""
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data for JSON, without what does not apply."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> FileEntry:
        """Build what `to_mapping` wrote."""
        rest = dict(mapping)
        for name in ("buckets", "shape"):
            if name in rest:
                rest[name] = tuple(rest[name])
        if "ranges" in rest:
            rest["ranges"] = tuple((start, stop) for start, stop in rest["ranges"])
        return cls(**rest)


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard as of the checkpoint's cut."""

    index: int
    sequence: int
    """How many changes it had applied."""
    base: int | None
    """Of a delta: the sequence number since which its changes are here."""
    buckets: tuple[tuple[int, int], ...]
    """The runs (first, stop) of buckets that it held."""
    control: dict[str, Any] = field(default_factory=dict)
    """What the shard wants to find again beside its rows; this package does not look into it."""

    @property
    def held(self) -> np.ndarray:
        """The buckets, one by one: int32, ascending."""
        runs = [np.arange(first, stop, dtype=np.int32) for first, stop in self.buckets]
        return np.concatenate([np.empty(0, np.int32), *runs])

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dict(vars(self))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> ShardEntry:
        """Build what `to_mapping` wrote."""
        rest = dict(mapping)
        rest["buckets"] = tuple((first, stop) for first, stop in rest["buckets"])
        return cls(**rest)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint holds."""

    id: str
    kind: Kind
    time_s: float
    """When it was taken, in seconds since 1970, by the clock of who took it."""
    parent: str | None
    """Of a delta: the id of the checkpoint that it goes on from, a folder beside its own, …"""
    parent_checksum: str | None
    """… and the checksum of that one's manifest."""
    num_buckets: int
    shards: tuple[ShardEntry, ...]
    table_mappings: tuple[dict[str, Any], ...]
    """The tables' configurations as they were written."""
    vectors: dict[str, int]
    """name: length."""
    about: dict[str, Any]
    """Whatever the group wants to find again."""
    files: tuple[FileEntry, ...]

    def __getstate__(self) -> dict[str, Any]:
        # Without what is made of it when it is asked for: every shard is sent one.
        return {name: value for name, value in vars(self).items() if name in _FIELDS}

    @functools.cached_property
    def tables(self) -> tuple[TableConfig, ...]:
        """The tables' configurations; optimizers of one's own must be registered by now."""
        return tuple(TableConfig.from_mapping(mapping) for mapping in self.table_mappings)

    @property
    def num_shards(self) -> int:
        """How many shards wrote it."""
        return len(self.shards)

    @property
    def sequences(self) -> tuple[int, ...]:
        """The sequence number of each shard."""
        return tuple(shard.sequence for shard in self.shards)

    @property
    def controls(self) -> tuple[dict[str, Any], ...]:
        """What each shard wanted to find again."""
        return tuple(shard.control for shard in self.shards)

    @property
    def size(self) -> int:
        """The bytes of all files but this one."""
        return sum(entry.bytes for entry in self.files)

    @property
    def rows(self) -> int:
        """Rows in it, of all tables."""
        return sum(entry.rows for entry in self.files if entry.kind == "rows")

    def rows_by_writer(self) -> dict[tuple[str, int], int]:
        """Return the rows that each shard wrote of each table: ``{(table, shard): rows}``.

        Without those of which there are none.
        """
        rows: dict[tuple[str, int], int] = {}
        for entry in self.files:
            if entry.kind == "rows":
                rows[entry.name, entry.shard] = rows.get((entry.name, entry.shard), 0) + entry.rows
        return rows

    @functools.cached_property
    def checksum(self) -> str:
        """SHA-256 of everything in it."""
        return _checksum(self._body)

    @functools.cached_property
    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "kind": self.kind,
            "time_s": self.time_s,
            "parent": self.parent,
            "parent_checksum": self.parent_checksum,
            "num_buckets": self.num_buckets,
            "shards": [shard.to_mapping() for shard in self.shards],
            "tables": list(self.table_mappings),
            "vectors": self.vectors,
            "about": self.about,
            "files": [entry.to_mapping() for entry in self.files],
        }

    def to_json(self) -> bytes:
        """Return the manifest with a checksum over everything else in it."""
        whole = {**self._body, "checksum": self.checksum}
        return (json.dumps(whole, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, place: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            ParameterServerError: it is damaged or of another version; the message names `place`.
        """
        body = _intact(content, place)
        if (body.get("format"), body.get("version")) != (FORMAT, VERSION):
            raise ParameterServerError(
                f"{place} is of format {body.get('format')!r} version {body.get('version')!r}; "
                f"this release reads {FORMAT!r} version {VERSION}. Load the checkpoint with the "
                f"release that wrote it, or train anew"
            )
        return cls(
            **{
                key: body[key]
                for key in ("id", "kind", "time_s", "parent", "parent_checksum", "num_buckets")
            },
            shards=tuple(ShardEntry.from_mapping(shard) for shard in body["shards"]),
            table_mappings=tuple(body["tables"]),
            vectors=body["vectors"],
            about=body["about"],
            files=tuple(FileEntry.from_mapping(entry) for entry in body["files"]),
        )


_FIELDS = frozenset(one.name for one in fields(Manifest))


def _intact(content: bytes, place: str) -> dict[str, Any]:
    try:
        body = json.loads(content)
        whole = isinstance(body, dict) and body.pop("checksum", None) == _checksum(body)
    except ValueError:
        whole = False
    if not whole:
        raise ParameterServerError(
            f"checkpoint file {place} is damaged: its checksum does not match its content; "
            f"load another checkpoint"
        )
    return dict(body)


def _checksum(body: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(body))  # keys are text now, as they are when read again
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
