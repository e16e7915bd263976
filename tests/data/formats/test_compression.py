from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Callable

import pyarrow as pa
import pytest

from weiml.data.formats.compression import (
    Codec,
    codec_of_bytes,
    compressing,
    decompressed,
    split_suffix,
)
from weiml.errors import DataError

TEXT = b"a,b\n" + b"1,2\n" * 5000
PACKED: dict[Codec, bytes] = {
    "gzip": gzip.compress(TEXT),
    "zlib": zlib.compress(TEXT),
    "bz2": bz2.compress(TEXT),
    "zstd": pa.compress(TEXT, "zstd", asbytes=True),
}


@pytest.mark.parametrize("codec", PACKED)
def test_other_programs_streams_are_told_and_read_one_after_the_other(codec: Codec) -> None:
    packed = PACKED[codec]
    assert codec_of_bytes(packed[:16]) == codec
    file = io.BytesIO(packed)
    assert decompressed(file, codec).read() == TEXT
    assert not file.closed
    if codec != "zlib":
        assert decompressed(io.BytesIO(packed + packed), codec).read() == TEXT + TEXT


@pytest.mark.parametrize("codec", PACKED)
def test_what_is_written_other_programs_read(codec: Codec) -> None:
    file = io.BytesIO()
    with compressing(file, codec) as plain:
        plain.write(TEXT[:7])
        plain.write(memoryview(TEXT)[7:])
    readers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zlib": zlib.decompress,
        "bz2": bz2.decompress,
        "zstd": lambda data: pa.decompress(data, len(TEXT), "zstd", asbytes=True),
    }
    assert readers[codec](file.getvalue()) == TEXT


@pytest.mark.parametrize("codec", PACKED)
def test_a_stream_cut_short_is_an_error(codec: Codec) -> None:
    for cut in (20, len(PACKED[codec]) - 3):
        with pytest.raises(DataError, match=f"the {codec} stream is damaged or cut short"):
            decompressed(io.BytesIO(PACKED[codec][:cut]), codec).read()


@pytest.mark.parametrize("head", [b"", b"a,b\n1,2\n", b"BZhaar,1\n2,3\n", b'x","y"', b'{"a": 1}'])
def test_plain_text_is_no_stream(head: bytes) -> None:
    assert codec_of_bytes(head[:16]) is None


def test_suffixes() -> None:
    assert split_suffix("a.csv.gz") == ("a.csv", "gzip")
    assert split_suffix("a.jsonl.bz2") == ("a.jsonl", "bz2")
    assert split_suffix("a.csv") == ("a.csv", None)
