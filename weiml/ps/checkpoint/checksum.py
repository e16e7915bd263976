"""The checksum of checkpoint files: XXH64 of bytes as they come, fast enough to hide behind a disk.

XXH64, seed 0, is Yann Collet's xxHash, 64-bit form (xxHash fast digest algorithm, specification
0.2): ``xxhsum -H1 FILE`` prints the same. It finds damage, not forgery.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numba
import numpy as np

__all__ = ["Bytes", "Checksum", "checksum_of"]

Bytes: TypeAlias = bytes | bytearray | memoryview | np.ndarray
"""Any contiguous buffer."""

_P1: Final = 0x9E3779B185EBCA87
_P2: Final = 0xC2B2AE3D27D4EB4F
_P3: Final = 0x165667B19E3779F9
_P4: Final = 0x85EBCA77C2B2AE63
_P5: Final = 0x27D4EB2F165667C5
_MASK: Final = 2**64 - 1
_STRIPE: Final = 32
_PIECE: Final = 1 << 20

_N1 = np.uint64(_P1)
_N2 = np.uint64(_P2)
_LEFT = np.uint64(31)
_RIGHT = np.uint64(33)


@numba.njit(inline="always")
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    mixed = lane + word * _N2
    return ((mixed << _LEFT) | (mixed >> _RIGHT)) * _N1


@numba.njit(cache=True, nogil=True)
def _stripes(words: np.ndarray, lanes: np.ndarray) -> None:
    a, b, c, d = lanes[0], lanes[1], lanes[2], lanes[3]
    for i in range(0, words.size, 4):
        a = _round(a, words[i])
        b = _round(b, words[i + 1])
        c = _round(c, words[i + 2])
        d = _round(d, words[i + 3])
    lanes[0], lanes[1], lanes[2], lanes[3] = a, b, c, d


class Checksum:
    """XXH64 of all bytes given to `update`; holds at most 31 of them."""

    def __init__(self) -> None:
        starts = (_P1 + _P2, _P2, 0, -_P1)
        self._lanes = np.array([start & _MASK for start in starts], np.uint64)
        self._rest = b""
        self._length = 0

    @property
    def length(self) -> int:
        """How many bytes there were."""
        return self._length

    def update(self, data: Bytes) -> None:
        """Add the bytes of any contiguous buffer."""
        view = _bytes(data)
        self._length += len(view)
        if self._rest:
            missing = _STRIPE - len(self._rest)
            self._rest += bytes(view[:missing])
            view = view[missing:]
            if len(self._rest) < _STRIPE:
                return
            self._add(np.frombuffer(self._rest, np.uint64))
        whole = len(view) - len(view) % _STRIPE
        if whole:
            self._add(np.frombuffer(view[:whole], np.uint64))
        self._rest = bytes(view[whole:])

    def _add(self, words: np.ndarray) -> None:
        # The loop wants aligned words; a piece that starts at an odd address is copied.
        if words.ctypes.data % 8:
            words = words.copy()
        _stripes(words, self._lanes)

    def hexdigest(self) -> str:
        """Return the checksum so far: 16 hexadecimal digits."""
        h = self._merged() if self._length >= _STRIPE else _P5
        h = (h + self._length) & _MASK
        rest = self._rest
        while len(rest) >= 8:
            h = (_rotated(h ^ _rounded(0, rest[:8]), 27) * _P1 + _P4) & _MASK
            rest = rest[8:]
        if len(rest) >= 4:
            word = int.from_bytes(rest[:4], "little") * _P1 & _MASK
            h = (_rotated(h ^ word, 23) * _P2 + _P3) & _MASK
            rest = rest[4:]
        for byte in rest:
            h = _rotated(h ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
        h = (h ^ (h >> 33)) * _P2 & _MASK
        h = (h ^ (h >> 29)) * _P3 & _MASK
        return f"{h ^ (h >> 32):016x}"

    def _merged(self) -> int:
        lanes = [int(lane) for lane in self._lanes]
        turned = zip(lanes, (1, 7, 12, 18), strict=True)
        h = sum(_rotated(lane, bits) for lane, bits in turned) & _MASK
        for lane in lanes:
            h = ((h ^ _rounded(0, lane.to_bytes(8, "little"))) * _P1 + _P4) & _MASK
        return h


def checksum_of(data: Bytes) -> str:
    """Return the checksum of one buffer, taken in pieces that stay in cache."""
    view = _bytes(data)
    checksum = Checksum()
    for start in range(0, len(view), _PIECE):
        checksum.update(view[start : start + _PIECE])
    return checksum.hexdigest()


def _bytes(data: Any) -> memoryview:
    return memoryview(data).cast("B")


def _rotated(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _MASK


def _rounded(lane: int, word: bytes) -> int:
    mixed = (lane + int.from_bytes(word, "little") * _P2) & _MASK
    return _rotated(mixed, 31) * _P1 & _MASK
