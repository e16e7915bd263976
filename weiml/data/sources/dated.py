"""Folders by day or hour: ``root/2017/06/01`` and ``root/2017/06/01/13``, in UTC."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa

from weiml.data.formats import Format
from weiml.data.sources.base import FeatureSink, FeatureSource, Piece, SinkWriter
from weiml.data.sources.files import FileSink, FileSource, list_files
from weiml.errors import ConfigError, DataError

__all__ = ["DailySink", "DailySource", "HourlySink", "HourlySource", "Moment"]

Moment = date | datetime | str
"""A day or an hour: a date, a datetime (UTC unless it has a zone), or ISO text."""


class _DatedSource(FeatureSource):
    step: timedelta
    pattern: str

    def __init__(
        self,
        root: str,
        first: Moment,
        last: Moment | None = None,
        *,
        missing: Literal["error", "skip"] = "error",
        format: str | Format | None = None,
        schema: pa.Schema | None = None,
        storage: Mapping[str, Any] | None = None,
    ) -> None:
        if missing not in ("error", "skip"):
            raise ConfigError(f"missing must be 'error' or 'skip', got {missing!r}")
        self.root = str(root).rstrip("/")
        self.first, self.last = (
            self._spans(first)[0],
            self._spans(first if last is None else last)[1],
        )
        if self.last < self.first:
            raise ConfigError(f"first = {first} comes after last = {last}")
        self.missing = missing
        self.format = format
        self.declared = schema
        self.storage = dict(storage or {})
        self._found: FileSource | None = None

    def __str__(self) -> str:
        return f"{self.root} from {self._text(self.first)} to {self._text(self.last)}"

    def schema(self) -> pa.Schema:
        """Return the columns of the first file."""
        return self._files().schema()

    def pieces(self) -> list[Piece]:
        """Return the pieces of all files, by time."""
        return self._files().pieces()

    def _files(self) -> FileSource:
        if self._found is not None:
            return self._found
        paths: list[str] = []
        absent: list[str] = []
        moment = self.first
        while moment <= self.last:
            folder = f"{self.root}/{moment.strftime(self.pattern)}"
            (paths if list_files(folder, self.storage) else absent).append(folder)
            moment += self.step
        if absent and (self.missing == "error" or not paths):
            names = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
            raise DataError(
                f"{len(absent)} of {len(absent) + len(paths)} folders are missing or empty: "
                f"{names}; pass missing='skip' to read the others"
            )
        self._found = FileSource(
            paths, format=self.format, schema=self.declared, storage=self.storage
        )
        return self._found

    @abstractmethod
    def _spans(self, moment: Moment) -> tuple[datetime, datetime]:
        """Return the first and the last folder's time that a moment means."""

    def _text(self, moment: datetime) -> str:
        return moment.strftime(self.pattern)


class DailySource(_DatedSource):
    """Examples of the days `first` to `last`, both included; of one day without `last`.

    Args:
        root: the folder above those of the years; local path or URL.
        first: a day, as a date or ISO text.
        last: the same; `first` if None.
        missing: what to do where a day has no files: "error", or "skip" it.
        format: as for `FileSource`.
        schema: as for `FileSource`: text files do not say their types, and the first day's may lack
            what a later one has.
        storage: options of the file system.
    """

    step = timedelta(days=1)
    pattern = "%Y/%m/%d"

    def _spans(self, moment: Moment) -> tuple[datetime, datetime]:
        day = _utc(moment).replace(hour=0, minute=0, second=0, microsecond=0)
        return day, day


class HourlySource(_DatedSource):
    """Examples of the hours `first` to `last`, both included; a day means all of its hours.

    Arguments are those of `DailySource`.
    """

    step = timedelta(hours=1)
    pattern = "%Y/%m/%d/%H"

    def _spans(self, moment: Moment) -> tuple[datetime, datetime]:
        hour = _utc(moment).replace(minute=0, second=0, microsecond=0)
        return hour, hour + timedelta(hours=23 if _is_day(moment) else 0)


class _DatedSink(FeatureSink):
    pattern: str

    def __init__(
        self,
        root: str,
        when: Moment,
        *,
        format: str | Format = "parquet",
        overwrite: bool = False,
        storage: Mapping[str, Any] | None = None,
    ) -> None:
        folder = f"{str(root).rstrip('/')}/{_utc(when).strftime(self.pattern)}"
        self._sink = FileSink(folder, format=format, overwrite=overwrite, storage=storage)

    def __str__(self) -> str:
        return str(self._sink)

    def open(self, schema: pa.Schema) -> SinkWriter:
        """Prepare the folder of that day or hour, as `FileSink` does."""
        return self._sink.open(schema)


class DailySink(_DatedSink):
    """The folder of one day; arguments as for `FileSink`, after the root and the day."""

    pattern = DailySource.pattern


class HourlySink(_DatedSink):
    """The folder of one hour; arguments as for `FileSink`, after the root and the hour."""

    pattern = HourlySource.pattern


def _is_day(moment: Moment) -> bool:
    if isinstance(moment, str):
        return len(moment.strip()) <= len("2017-06-01")
    return not isinstance(moment, datetime)


def _utc(moment: Moment) -> datetime:
    try:
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        elif not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day)
    except (ValueError, AttributeError):
        raise ConfigError(
            f"a day or hour is a date, a datetime or ISO text such as 2017-06-01T13, got {moment!r}"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
