"""Files and folders as sources and sinks, on any file system that fsspec opens.

A sink writes part files and then the manifest ``_weiml.json``, which names them: readers of a
folder with a manifest see the parts that it names, so a write is seen whole or not at all, also on
object stores, which cannot rename. A folder without one is read file by file, whoever wrote it;
one whose first write never ended has a manifest that names nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa

from weiml.data.formats import Format, format_of
from weiml.data.sources.base import FeatureSink, FeatureSource, Piece, SinkWriter
from weiml.errors import ConfigError, DataError

__all__ = ["MANIFEST", "FileSink", "FileSource", "list_files"]

MANIFEST = "_weiml.json"
log = logging.getLogger(__name__)

_PART = re.compile(r"\.?part-\d{5,}-[0-9a-f]{8}\b")
_STORES = frozenset({"abfs", "az", "gcs", "gs", "memory", "oci", "s3", "s3a"})
_OPEN_FILES = 16  # footers read at a time: on object stores each is a round trip or two


class FileSource(FeatureSource):
    """One file, a folder, a pattern (``logs/*.csv``), or several of them, in the order of names.

    Args:
        paths: local paths or URLs: ``s3://bucket/folder``, ``hdfs://…``, ``gs://…``, ``memory://…``.
        format: a name of `weiml.data.formats.FORMATS` or a `Format` with options; by the suffix of
            each file if None.
        schema: the columns to read, of these types; what the first file says if None.
        storage: options of the file system, as fsspec takes them: keys, endpoint.
    """

    def __init__(
        self,
        paths: str | Sequence[str],
        *,
        format: str | Format | None = None,
        schema: pa.Schema | None = None,
        storage: Mapping[str, Any] | None = None,
    ) -> None:
        self.paths = [str(paths)] if isinstance(paths, str) else [str(path) for path in paths]
        self.format = format
        self.storage = dict(storage or {})
        self._files: list[str] | None = None
        self._schema = schema

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}" if self.paths else "no files"

    def files(self) -> list[str]:
        """Return the URLs of the files.

        Raises:
            DataError: there are none.
        """
        if self._files is None:
            found = [file for path in self.paths for file in list_files(path, self.storage)]
            if not found:
                raise DataError(
                    f"no files at {', '.join(self.paths)}, or a write to it has not ended"
                )
            self._files = found
        return self._files

    def schema(self) -> pa.Schema:
        """Return the columns: those asked for, or of the first file; all files must have them."""
        if self._schema is None:
            first = self.files()[0]
            with _opened(first, self.storage) as file:
                self._schema = self._format(first).schema(file).remove_metadata()
        return self._schema

    def pieces(self) -> list[Piece]:
        """Return the pieces that the format makes of each file."""
        with ThreadPoolExecutor(_OPEN_FILES) as pool:
            return [piece for pieces in pool.map(self._cut, self.files()) for piece in pieces]

    def _cut(self, url: str) -> list[Piece]:
        format = self._format(url)
        with _opened(url, self.storage) as file:
            count = format.pieces(file)
        size = _size(url, self.storage) // count
        return [
            _FilePiece(url, format, self.storage, at if count > 1 else None, size)
            for at in range(count)
        ]

    def _format(self, url: str) -> Format:
        return format_of(url, self.format)


@dataclass
class _FilePiece(Piece):
    url: str
    format: Format
    storage: dict[str, Any]
    piece: int | None
    num_bytes: int

    def read(self, schema: pa.Schema) -> Iterator[pa.Table]:
        with _opened(self.url, self.storage) as file:
            yield from self.format.read(file, schema=schema, piece=self.piece)


@dataclass(frozen=True, kw_only=True)
class _Target:
    folder: str
    format: Format
    storage: dict[str, Any] = field(default_factory=dict)


class FileSink(FeatureSink):
    """A folder of part files.

    Args:
        folder: local path or URL.
        format: as for `FileSource`; Parquet by default.
        overwrite: replace what an earlier write of ours left; it stays visible until the new
            examples are whole.
        storage: options of the file system.
    """

    def __init__(
        self,
        folder: str,
        *,
        format: str | Format = "parquet",
        overwrite: bool = False,
        storage: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = str(folder)
        self.format = format_of(self.folder, format)
        self.overwrite = overwrite
        self.storage = dict(storage or {})

    def __str__(self) -> str:
        return self.folder

    def open(self, schema: pa.Schema) -> SinkWriter:
        """Prepare the folder.

        Raises:
            DataError: it holds files and may not be overwritten, or holds files that are not ours.
        """
        self.format.check(schema)
        fs, path = _resolved(self.folder, self.storage)
        if fs.isfile(path):
            raise DataError(f"{self.folder} is a file: examples are written to a folder")
        held = [
            name for name in _children(fs, path) if not posixpath.basename(name).startswith(".")
        ]
        ours = _read_manifest(fs, path)
        if held and not self.overwrite and (ours is None or ours["parts"]):
            raise DataError(f"{self.folder} is not empty: pass overwrite=True, or another folder")
        if held and ours is None:
            raise DataError(
                f"{self.folder} holds files that weiml did not write, such as "
                f"{posixpath.basename(held[0])}: choose another folder"
            )
        fs.makedirs(path, exist_ok=True)
        if ours is None:
            _write_manifest(fs, path, {"parts": []})
        target = _Target(folder=self.folder, format=self.format, storage=self.storage)
        return _FileWriter(target, schema, uuid.uuid4().hex[:8])


class _FileWriter(SinkWriter):
    def __init__(self, target: _Target, schema: pa.Schema, run: str) -> None:
        self.target = target
        self.schema = schema
        self.run = run

    def write(self, piece: int, tables: Iterable[pa.Table]) -> dict[str, Any] | None:
        """Write one part; a piece without examples makes none."""
        fs, path = _resolved(self.target.folder, self.target.storage)
        filled = (table for table in tables if table.num_rows)
        first = next(filled, None)
        if first is None:
            return None
        counted = _Counted(first, filled)
        name = self._name(piece)
        self._put(fs, f"{path}/{name}", counted)
        return {"file": name, "examples": counted.rows}

    def commit(self, written: list[Any]) -> str:
        """Write the manifest and remove what it no longer names; return the folder."""
        fs, path = _resolved(self.target.folder, self.target.storage)
        parts = [part for part in written if part is not None]
        if not parts:
            self._put(fs, f"{path}/{self._name(0)}", [self.schema.empty_table()])
            parts = [{"file": self._name(0), "examples": 0}]
        _write_manifest(fs, path, {"format": self.target.format.name, "parts": parts})
        kept = {part["file"] for part in parts}
        try:
            _remove(fs, [name for name in _children(fs, path) if _is_part(name, kept)])
        except OSError as error:  # the new examples are there: what is left over is not read
            log.warning("old parts in %s could not be removed: %s", self.target.folder, error)
        return self.target.folder

    def abort(self) -> None:
        """Remove this run's parts, but for those that are visible.

        The manifest stays, if it names nothing too: a part that some process still writes then is
        nobody's example.
        """
        fs, path = _resolved(self.target.folder, self.target.storage)
        manifest = _read_manifest(fs, path) or {"parts": []}
        kept = {part["file"] for part in manifest["parts"]}
        mine = [name for name in _children(fs, path) if f"-{self.run}" in posixpath.basename(name)]
        _remove(fs, [name for name in mine if posixpath.basename(name) not in kept])

    def _name(self, piece: int) -> str:
        return f"part-{piece:05d}-{self.run}{self.target.format.suffixes[0]}"

    def _put(self, fs: Any, path: str, tables: Iterable[pa.Table]) -> None:
        """Write one file whole: aside and renamed, or, in a store, when it is closed."""
        aside = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}")
        whole = _puts_whole(fs)
        with fs.open(path if whole else aside, "wb") as file:
            self.target.format.write(file, tables, self.schema)
        if not whole:
            fs.mv(aside, path)


class _Counted:
    """Passes tables on and counts their rows."""

    def __init__(self, first: pa.Table, rest: Iterator[pa.Table]) -> None:
        self.rows = 0
        self._first, self._rest = first, rest

    def __iter__(self) -> Iterator[pa.Table]:
        self.rows = self._first.num_rows
        yield self._first
        for table in self._rest:
            self.rows += table.num_rows
            yield table


def list_files(path: str, storage: Mapping[str, Any] | None = None) -> list[str]:
    """Return the URLs of the files at a file, folder or pattern, sorted by name.

    A folder with a manifest has the parts that it names; hidden files, and those that start with
    an underscore, are nobody's examples.
    """
    fs, found = _resolved(path, storage or {})
    if any(mark in found for mark in "*?["):
        names = _matching(fs, found)
    elif fs.isfile(found):
        names = [found]
    else:
        names = _example_files(fs, found)
    return [str(fs.unstrip_protocol(name)) for name in names]


def _matching(fs: Any, pattern: str) -> list[str]:
    """Return the files that match a pattern, and those below folders that do, as folders read."""
    fs.invalidate_cache()
    names: list[str] = []
    named: dict[str, set[str] | None] = {}
    for name in sorted(fs.glob(pattern)):
        above, base = posixpath.split(name)
        if fs.isdir(name):
            names += _example_files(fs, name)
            continue
        if above not in named:
            manifest = _read_manifest(fs, above)
            named[above] = {p["file"] for p in manifest["parts"]} if manifest else None
        parts = named[above]
        if not base.startswith((".", "_")) and (parts is None or base in parts):
            names.append(name)
    return names


def _example_files(fs: Any, folder: str) -> list[str]:
    """Return the example files of a folder: what its manifest names, or else all below it.

    Where folders below have manifests, it is what these name.
    """
    own = _read_manifest(fs, folder)
    if own is not None:
        return [f"{folder}/{part['file']}" for part in own["parts"]]
    held = _ls(fs, folder)
    named: dict[str, list[str]] = {}
    for name in held:
        above, base = posixpath.split(name)
        if base == MANIFEST:
            manifest = _read_manifest(fs, above) or {"parts": []}
            named[above] = [f"{above}/{part['file']}" for part in manifest["parts"]]
    files = [name for name in held if posixpath.dirname(name) not in named]
    files = [name for name in files if not _is_hidden(name[len(folder) :])]
    return sorted(files + [name for parts in named.values() for name in parts])


def _is_hidden(below: str) -> bool:
    return any(part.startswith((".", "_")) for part in below.strip("/").split("/"))


def _is_part(path: str, kept: set[str]) -> bool:
    """Whether a file is a part of ours, whole or not, that is none of `kept`."""
    name = posixpath.basename(path)
    return _PART.match(name) is not None and name not in kept


def _remove(fs: Any, paths: Iterable[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(path)


def _children(fs: Any, path: str) -> list[str]:
    """Return the files that lie in a folder itself."""
    return [name for name in _ls(fs, path) if posixpath.dirname(name) == path]


def _ls(fs: Any, path: str) -> list[str]:
    """Return all files below a folder; none where it does not exist."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        fs.invalidate_cache()
        return list(fs.find(path))
    return []


def _read_manifest(fs: Any, folder: str) -> dict[str, Any] | None:
    path = f"{folder}/{MANIFEST}"
    try:
        fs.invalidate_cache()
        manifest = json.loads(fs.cat_file(path))
        names = [part["file"] for part in manifest["parts"]]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error!r}") from None
    if not all(isinstance(name, str) and "/" not in name for name in names):
        raise DataError(f"{path} names parts outside its folder")
    return dict(manifest)


def _write_manifest(fs: Any, folder: str, manifest: Mapping[str, Any]) -> None:
    path, text = f"{folder}/{MANIFEST}", json.dumps(manifest, indent=1).encode()
    if _puts_whole(fs):
        fs.pipe_file(path, text)  # stores put objects whole
        return
    aside = f"{path}.{uuid.uuid4().hex[:8]}"
    fs.pipe_file(aside, text)
    fs.mv(aside, path)


def _puts_whole(fs: Any) -> bool:
    """Whether a file is seen only when it is closed, as an object of a store is."""
    names = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return not _STORES.isdisjoint(names)


def _resolved(url: str, storage: Mapping[str, Any]) -> tuple[Any, str]:
    try:
        fs, path = fsspec.core.url_to_fs(url, **storage)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{url} cannot be opened: {error}; its fsspec implementation must be installed"
        ) from None
    return fs, path.rstrip("/") or "/"


@contextlib.contextmanager
def _opened(url: str, storage: Mapping[str, Any]) -> Iterator[Any]:
    """Open a file; what goes wrong while it is open is told with its URL."""
    fs, path = _resolved(url, storage)
    try:
        with fs.open(path, "rb") as file:
            yield file
    except DataError as error:
        raise DataError(f"{url}: {error}") from None
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error}") from None


def _size(url: str, storage: Mapping[str, Any]) -> int:
    fs, path = _resolved(url, storage)
    return int(fs.size(path) or 0)
