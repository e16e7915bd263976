"""What a file format offers: its schema before anything is read, its rows in blocks, writing.

A format knows bytes and columns; where files lie, and what is done with their rows, is known
elsewhere (weiml.data.sources, weiml.data.examples).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa

from weiml.config import nearest
from weiml.data.formats.compression import Codec, split_suffix
from weiml.errors import ConfigError, DataError

__all__ = ["FORMATS", "BadRow", "Format", "OnBadRow", "format_of", "register_format"]

ROWS_PER_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be read: where it stands, what it holds and why."""

    place: str
    """The line, record or row group within the file, as text: ``line 17``."""
    reason: str
    raw: bytes
    """The row as it stands in the file, cut off after some kilobytes."""


OnBadRow = Callable[[BadRow], None]
"""Told of each row that is left out. It may raise, to end the reading."""


class Format(ABC):
    """One way to keep a table in a file. Frozen, so thread-safe and picklable.

    Files are binary and seekable, opened by whoever calls, who also closes them.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """How names of such files end, with the dot."""

    @abstractmethod
    def schema(self, file: BinaryIO) -> pa.Schema:
        """Return the columns of a file without reading more of it than needed.

        Raises:
            DataError: the file is damaged or of another format.
        """

    @abstractmethod
    def read(
        self,
        file: BinaryIO,
        *,
        schema: pa.Schema | None = None,
        piece: int | None = None,
        on_bad: OnBadRow | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the rows in their order, in blocks of about `ROWS_PER_BLOCK` rows.

        Args:
            file: opened at its start.
            schema: the columns to read, in that order and of these types; all that the file has
                if None.
            piece: one of `pieces`; the whole file if None.
            on_bad: takes each row that cannot be read, which is then left out.

        Raises:
            DataError: the file is damaged, lacks a column, or, without `on_bad`, a row cannot be
                read: the message names line (or record) and column.
        """

    @abstractmethod
    def write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Write tables of `schema`, in order, as one file.

        Raises:
            DataError: the format cannot hold a column of that type.
        """

    def pieces(self, file: BinaryIO) -> int:
        """Return into how many pieces the file can be cut for reading in parallel; 1 by default."""
        return 1

    def check(self, schema: pa.Schema) -> None:  # noqa: B027 - most hold anything
        """Raise DataError unless the format can hold columns of these types; any by default."""

    def compressed(self, codec: Codec) -> Format:
        """Return the format whose files are compressed as a whole.

        Raises:
            ConfigError: files of this format are read at many places, and compress inside.
        """
        raise ConfigError(
            f"{self.name} files cannot be compressed as a whole with {codec}: they compress "
            "inside; leave the suffix away and set the format's own compression"
        )


FORMATS: dict[str, Format] = {}


def register_format(format: Format) -> Format:
    """Make a format, with its default options, known by its name and its suffixes."""
    FORMATS[format.name] = format
    return format


def format_of(path: str, name: str | Format | None = None) -> Format:
    """Return the format `name`, or that of the path's suffix.

    A path that ends in ``.gz``, ``.zst`` or ``.bz2`` gives the format compressed as a whole.

    Raises:
        ConfigError: no such format, or one that cannot be compressed as a whole.
    """
    plain, codec = split_suffix(path)
    found = _format_of(plain, name)
    return found if codec is None else found.compressed(codec)


def _format_of(path: str, name: str | Format | None) -> Format:
    if isinstance(name, Format):
        return name
    if name is not None:
        if name not in FORMATS:
            raise ConfigError(f"unknown format {name!r}{nearest(name, FORMATS)}")
        return FORMATS[name]
    for known in FORMATS.values():
        if path.endswith(known.suffixes):
            return known
    endings = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
    raise ConfigError(f"{path}: no format has such files ({endings}); name one with format=")


def pick(columns: Sequence[str], schema: pa.Schema) -> None:
    """Raise DataError unless a file with `columns` has all of `schema`."""
    for name in schema.names:
        if name not in columns:
            raise DataError(f"no column {name!r}{nearest(name, columns)}; it has {list(columns)}")
