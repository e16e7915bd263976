"""Sources and sinks: where examples lie, by path, by day or hour, or in memory."""

from __future__ import annotations

from weiml.data.sources.base import FeatureSink, FeatureSource, Piece, SinkWriter
from weiml.data.sources.dated import DailySink, DailySource, HourlySink, HourlySource
from weiml.data.sources.files import FileSink, FileSource
from weiml.data.sources.memory import TableSource

__all__ = [
    "DailySink",
    "DailySource",
    "FeatureSink",
    "FeatureSource",
    "FileSink",
    "FileSource",
    "HourlySink",
    "HourlySource",
    "Piece",
    "SinkWriter",
    "TableSource",
]
