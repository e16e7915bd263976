"""File formats: each reads its schema, reads rows in blocks, and writes."""

from __future__ import annotations

from weiml.data.formats.base import (
    FORMATS,
    BadRow,
    Format,
    OnBadRow,
    format_of,
    register_format,
)
from weiml.data.formats.parquet import Parquet

__all__ = [
    "FORMATS",
    "BadRow",
    "Format",
    "OnBadRow",
    "Parquet",
    "format_of",
    "register_format",
]
