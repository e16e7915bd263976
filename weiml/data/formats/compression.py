"""Files compressed as a whole: told by their suffix when written, by their bytes when read.

A reader needs no name: gzip, zlib, zstd and bzip2 streams begin with bytes that none of the plain
formats begins with. Streams that were put one after the other are read as one.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import pyarrow as pa

from weiml.errors import DataError

__all__ = ["CODECS", "Codec", "codec_of_bytes", "compressing", "decompressed", "split_suffix"]

Codec: TypeAlias = Literal["gzip", "zlib", "zstd", "bz2"]
CODECS: tuple[str, ...] = get_args(Codec)

_SUFFIXES: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_PIECE = 1 << 20


def split_suffix(path: str) -> tuple[str, Codec | None]:
    """Return the path without the suffix of a compression, and that compression.

    >>> split_suffix("clicks.csv.zst")
    ('clicks.csv', 'zstd')
    """
    for suffix, codec in _SUFFIXES.items():
        if path.endswith(suffix):
            return path.removesuffix(suffix), codec
    return path, None


def codec_of_bytes(head: bytes) -> Codec | None:
    """Return the compression of a file that begins with `head` (at least 10 bytes), if any."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bz2"
    # RFC 1950: deflate with a 32 KiB window, and a header that is a multiple of 31.
    zlibbed = len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0
    return "zlib" if zlibbed and head[1] in (0x01, 0x9C, 0xDA) else None


class _Borrowed(io.RawIOBase):
    """Somebody's file: closing it closes nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)


class _Checked(io.RawIOBase):
    """A decompressing stream whose errors are DataErrors."""

    def __init__(self, stream: Any, codec: Codec) -> None:
        self._stream = stream
        self._codec = codec

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._stream.read(len(view))
        except OSError as error:
            raise DataError(f"the {self._codec} stream is damaged or cut short: {error}") from None
        view[: len(data)] = data
        return len(data)


def decompressed(file: BinaryIO, codec: Codec | None) -> BinaryIO:
    """Return the plain bytes of a file that stands at the start of a stream of `codec`.

    Reading raises DataError where the stream is damaged or cut short. The file stays open.
    """
    if codec is None:
        return file
    source = pa.PythonFile(_Borrowed(file), mode="r")
    # Arrow's gzip tells zlib's streams by itself.
    stream = pa.CompressedInputStream(source, "gzip" if codec == "zlib" else codec)
    return io.BufferedReader(_Checked(stream, codec), _PIECE)


@contextlib.contextmanager
def compressing(file: BinaryIO, codec: Codec | None) -> Iterator[BinaryIO]:
    """Give a file to write plain bytes to, which reach `file` compressed; `file` stays open.

    The stream is ended only if the body ends well: what an error leaves is no whole stream.
    """
    if codec is None:
        yield file
        return
    packer = _packer(codec)
    yield _Packed(file, packer)  # type: ignore[misc]
    file.write(packer.flush())


def _packer(codec: Codec) -> Any:
    if codec == "bz2":
        return bz2.BZ2Compressor()
    if codec == "zstd":
        return _Zstd()
    return zlib.compressobj(6, zlib.DEFLATED, 31 if codec == "gzip" else 15)


class _Kept(io.BytesIO):
    """Bytes that outlive the closing of the stream that wrote them."""

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        data = self.getvalue()
        self.seek(0)
        self.truncate()
        return data


class _Zstd:
    """Arrow's zstd in the manner of the standard library's compressors: one frame."""

    def __init__(self) -> None:
        self._out = _Kept()
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._out, mode="w"), "zstd")

    def compress(self, data: Any) -> bytes:
        self._stream.write(data)
        return self._out.take()

    def flush(self) -> bytes:
        self._stream.close()
        return self._out.take()


class _Packed(io.RawIOBase):
    """A file to write to, each piece compressed on its way."""

    def __init__(self, file: BinaryIO, packer: Any) -> None:
        self._file = file
        self._packer = packer
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._file.write(self._packer.compress(data))
        self._written += size
        return size

    def tell(self) -> int:
        return self._written
