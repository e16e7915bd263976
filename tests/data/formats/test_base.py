from __future__ import annotations

import pytest

from weiml.data.formats import FORMATS, Csv, JsonLines, format_of
from weiml.errors import ConfigError


def test_a_compressed_path_gives_the_format_that_writes_so() -> None:
    assert format_of("x/clicks.csv.gz") == Csv(compression="gzip")
    assert format_of("clicks.zst", "jsonl") == JsonLines(compression="zstd")
    assert format_of("clicks.csv.bz2", Csv(delimiter=";")) == Csv(delimiter=";", compression="bz2")
    assert format_of("clicks.csv.gz", Csv(compression="zstd")).compression == "zstd"  # type: ignore[attr-defined]


def test_a_format_that_is_read_at_many_places_is_not_compressed_as_a_whole() -> None:
    for path in ("x.parquet.gz", "x.arrow.zst"):
        with pytest.raises(ConfigError, match="compress inside"):
            format_of(path)


def test_every_suffix_is_known_and_belongs_to_one_format() -> None:
    suffixes = [suffix for known in FORMATS.values() for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes))
    for known in FORMATS.values():
        for suffix in known.suffixes:
            assert format_of("x" + suffix) is known
