"""CSV files as blocks of whole rows: opened, unpacked, their header read, cut at rows' ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np

from weiml.data.batches.csv.rows import RowEnds, count_lines, find_row_ends, first_row_end
from weiml.data.batches.csv.words import PADDING
from weiml.data.formats.compression import decompressed, split_suffix
from weiml.errors import ConfigError, DataError
from weiml.ps.rows.memory import address_of

__all__ = ["Block", "CsvFile", "open_csv"]

_BOM = b"\xef\xbb\xbf"
_LF, _CR = 10, 13
LONGEST_ROW = 1 << 26
"""Bytes; what is longer is taken for a quote that is never closed."""


@dataclass(frozen=True, eq=False)
class Block:
    """Whole rows of a file."""

    text: np.ndarray
    """uint8 ``(size + PADDING or more,)``; the rows are its first `size` bytes, and a line's end
    is the last of them."""
    size: int
    rows: int
    """How many there are, not counting a last one whose quotes are never closed."""
    quoted: bool
    """Whether there is a quote."""
    path: str
    row: int
    """The number of its first row within the file, from 0, the header not counted."""
    line: int
    """The number of its first line within the file, from 1."""

    def line_of(self, position: int) -> int:
        """Return the number of the line of the file in which a byte of the block stands."""
        return self.line + int(count_lines(address_of(self.text), position))


@dataclass(frozen=True, eq=False)
class CsvFile:
    """One file, open: the names of its columns, and its blocks, which close it at their end."""

    columns: tuple[str, ...]
    blocks: Iterator[Block]


def open_csv(
    path: str,
    *,
    delimiter: str,
    columns: Sequence[str] | None,
    block_bytes: int,
    storage: Mapping[str, Any] | None = None,
) -> CsvFile:
    """Open a local file, or any that fsspec knows; ``.gz``, ``.zst`` and ``.bz2`` are unpacked.

    Args:
        path: also with a scheme, as in ``s3://``.
        delimiter: one ASCII character.
        columns: of a file without header; None: the first row names them.
        block_bytes: about the size of a block.
        storage: options of the file system, as fsspec takes them.

    Raises:
        DataError: there is no such file, or its header cannot be read.
        ConfigError: the file system is not known.
    """
    file = _opened(path, storage or {})
    reader = _Reader(path, file, ord(delimiter), block_bytes)
    try:
        names = tuple(columns) if columns is not None else reader.header()
        if len(set(names)) != len(names):
            raise DataError(f"{path}: columns need different names, got {list(names)}")
    except BaseException:
        file.close()
        raise
    return CsvFile(names, reader.blocks())


def _opened(path: str, storage: Mapping[str, Any]) -> Any:
    """Return a binary file of the bytes as they are kept."""
    try:
        if "://" in path or "::" in path:
            fs, name = fsspec.core.url_to_fs(path, **storage)
            return fs.open(name, "rb")
        return io.FileIO(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be opened: {error}; its fsspec implementation must be installed"
        ) from None


class _Reader:
    """What of a file has been read and not yet given out."""

    def __init__(self, path: str, file: Any, delimiter: int, block_bytes: int) -> None:
        self._path, self._file, self._delimiter = path, file, delimiter
        self._plain: Any = decompressed(file, split_suffix(path)[1])
        self._block_bytes = block_bytes
        self._rest = np.empty(0, np.uint8)
        self._row, self._line = 0, 1
        self._started = self._ended = False

    def header(self) -> tuple[str, ...]:
        """Read the first row, and return its fields."""
        size = self._block_bytes
        while True:
            text, used = self._fill(size)
            end = int(first_row_end(address_of(text), used, np.uint8(self._delimiter)))
            if end or self._ended:
                break
            self._rest = text[:used]
            size = self._longer(size)
        if not end:
            raise DataError(f"{self._path} is empty: it has no row that names its columns")
        try:
            head = text[:end].tobytes().decode()
        except UnicodeDecodeError:
            raise DataError(f"{self._path}, line {self._line}: the header is no UTF-8") from None
        self._rest = text[end:used]
        self._line += int(count_lines(address_of(text), end))
        rows = csv.reader(io.StringIO(head, newline=""), delimiter=chr(self._delimiter))
        return tuple(next(row for row in rows if row))

    def blocks(self) -> Iterator[Block]:
        """Yield what follows."""
        size = self._block_bytes
        try:
            while not self._ended or self._rest.size:
                text, used = self._fill(size)
                ends = find_row_ends(text, used, self._delimiter, last=self._ended)
                # The end of the file ends its last row, even where quotes are still open.
                end = used if self._ended else ends.end
                self._rest = text[end:used]
                if end:
                    yield self._block(text, end, ends)
                    size = self._block_bytes
                elif used:
                    size = self._longer(size)
        finally:
            self._file.close()

    def _block(self, text: np.ndarray, size: int, ends: RowEnds) -> Block:
        block = Block(text, size, ends.rows, ends.quoted, self._path, self._row, self._line)
        self._row += ends.rows
        self._line += int(count_lines(address_of(text), size))
        return block

    def _fill(self, size: int) -> tuple[np.ndarray, int]:
        """Return the rest and more behind it, up to `size` bytes, and how many these are."""
        text = np.empty(max(size, self._rest.size) + PADDING, np.uint8)
        text[: self._rest.size] = self._rest
        used = self._rest.size
        view = text.data
        try:
            while used < size and not self._ended:
                count = self._plain.readinto(view[used:size])
                self._ended = not count
                used += count or 0
        except (OSError, DataError) as error:
            raise DataError(f"{self._path} cannot be read: {error}") from None
        if not self._started:
            self._started = True
            if text[:3].tobytes() == _BOM and used >= 3:
                text, used = text[3:], used - 3
        if self._ended and used and text[used - 1] not in (_LF, _CR):
            text[used] = _LF
            used += 1
        text[used] = _LF  # of a CR that is the last byte no LF is looked for beyond
        return text, used

    def _longer(self, size: int) -> int:
        if size >= LONGEST_ROW:
            raise DataError(
                f"{self._path}, line {self._line}: a row of more than {size} bytes starts here, as "
                f"where a quote is never closed"
            )
        return 2 * size
