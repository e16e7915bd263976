"""CSV straight to batches: rows cut, fields hashed and read where they stand."""

from __future__ import annotations

from weiml.data.batches.csv.source import CsvExamples

__all__ = ["CsvExamples"]
