"""File formats: each reads its schema, reads rows in blocks, and writes."""

from __future__ import annotations

from weiml.data.formats.arrow import Arrow, ArrowStream
from weiml.data.formats.base import (
    FORMATS,
    BadRow,
    Format,
    OnBadRow,
    format_of,
    register_format,
)
from weiml.data.formats.conversion import Conversion, convert
from weiml.data.formats.csv import Csv, Tsv
from weiml.data.formats.jsonl import JsonLines
from weiml.data.formats.libffm import Libffm
from weiml.data.formats.libsvm import Libsvm
from weiml.data.formats.parquet import Parquet
from weiml.data.formats.stream import StreamFormat
from weiml.data.formats.tfrecord import TfRecord
from weiml.data.formats.vw import VowpalWabbit

__all__ = [
    "FORMATS",
    "Arrow",
    "ArrowStream",
    "BadRow",
    "Conversion",
    "Csv",
    "Format",
    "JsonLines",
    "Libffm",
    "Libsvm",
    "OnBadRow",
    "Parquet",
    "StreamFormat",
    "TfRecord",
    "Tsv",
    "VowpalWabbit",
    "convert",
    "format_of",
    "register_format",
]
