"""Sinks: result files that a crash cannot double, and a function that is called with results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from weiml.data.streams.base import Sink
from weiml.data.streams.durable import claim, writing
from weiml.errors import DataError

__all__ = ["CallSink", "PartFiles"]


class PartFiles(Sink):
    """Writes ``FOLDER/STREAM/part-NUMBER.parquet``, one file a checkpoint with results.

    A file is written aside and renamed. A checkpoint's results that come again overwrite its file,
    and files later than the checkpoint that a run goes on from are deleted: reading all files of a
    stream gives each result once. The folder is one run's: it is refused to a run with other
    checkpoints while it holds files.
    """

    def __init__(self, folder: str | Path, format: Literal["parquet", "arrow"] = "parquet") -> None:
        self.folder = Path(folder)
        self._format = format

    def begin(self, number: int, run: str) -> None:
        """Delete files later than `number`, and those that were never finished.

        Raises:
            ConfigError: the folder holds files of another run, or of checkpoints that are gone.
        """
        files = list(self.folder.glob("*/*part-*"))
        numbers = {path: _number(path) for path in files}
        newest = max(numbers.values(), default=0)
        # Before its first checkpoint a run has written nothing.
        claim(self.folder, run, newest, 0 if number == 0 else newest)
        for path in files:
            if numbers[path] > number or path.name.startswith(".part-"):
                path.unlink()

    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Write one file a stream; streams without rows have none."""
        for stream, table in tables.items():
            if not table.num_rows:
                continue
            place = self.folder / stream / f"part-{number:08d}.{self._format}"
            try:
                with writing(place) as aside:
                    if self._format == "parquet":
                        pq.write_table(table, aside, compression="zstd")
                    else:
                        pyarrow.feather.write_feather(table, aside, compression="uncompressed")
            except OSError as error:
                raise DataError(f"{place} could not be written: {error}") from None


class CallSink(Sink):
    """Calls a function with each checkpoint's results: ``function(number, tables)``.

    Whenever a run goes on the last checkpoint's results come again: remember the number if that
    matters.
    """

    def __init__(self, function: Callable[[int, Mapping[str, pa.Table]], None]) -> None:
        self._function = function

    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Call the function."""
        self._function(number, tables)


def _number(path: Path) -> int:
    """Return the number of a finished file, 0 of any other."""
    match = re.fullmatch(r"part-(\d{8})\.\w+", path.name)
    return int(match[1]) if match else 0
