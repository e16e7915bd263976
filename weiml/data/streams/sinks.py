"""Sinks: result files that a crash cannot double, and a function that is called with results."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from weiml.data.streams.base import Sink
from weiml.errors import DataError

__all__ = ["CallSink", "PartFiles"]


class PartFiles(Sink):
    """Writes ``FOLDER/STREAM/part-NUMBER.parquet``, one file a checkpoint with results.

    A file is written aside and renamed. A checkpoint's results that come again overwrite its file,
    and files later than the checkpoint that a run goes on from are deleted: reading all files of a
    stream gives each result once.
    """

    def __init__(self, folder: str | Path, format: Literal["parquet", "arrow"] = "parquet") -> None:
        self.folder = Path(folder)
        self._format = format

    def begin(self, number: int) -> None:
        """Delete files later than `number`, and those that were never finished."""
        for path in self.folder.glob("*/*part-*"):
            match = re.fullmatch(r"part-(\d{8})\.\w+", path.name)
            if (match and int(match[1]) > number) or path.name.startswith(".part-"):
                path.unlink()

    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Write one file a stream; streams without rows have none."""
        for stream, table in tables.items():
            if not table.num_rows:
                continue
            place = self.folder / stream / f"part-{number:08d}.{self._format}"
            aside = place.with_name(f".{place.name}")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if self._format == "parquet":
                    pq.write_table(table, aside, compression="zstd")
                else:
                    pyarrow.feather.write_feather(table, aside, compression="uncompressed")
                _sync(aside)
                aside.rename(place)
                _sync(place.parent)
            except OSError as error:
                with suppress(OSError):
                    aside.unlink()
                raise DataError(f"{place} could not be written: {error}") from None


class CallSink(Sink):
    """Calls a function with each checkpoint's results: ``function(number, tables)``.

    After a crash the last checkpoint's results come again: remember the number if that matters.
    """

    def __init__(self, function: Callable[[int, Mapping[str, pa.Table]], None]) -> None:
        self._function = function

    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Call the function."""
        self._function(number, tables)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
