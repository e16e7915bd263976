"""CRC-32C, masked as in TFRecord files, eight bytes at a step.

The polynomial is Castagnoli's, 0x1EDC6F41, bits reversed (G. Castagnoli et al., IEEE Trans. Comm.
41(6), 1993); the tables are those of slicing-by-8 (M. Kounavis and F. Berry, ISCC 2005).
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["crc32c", "masked_crc32c"]


def _tables() -> np.ndarray:
    """Return tables (8, 256) uint32: of a byte, followed by 0 to 7 zero bytes."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        tables[0, byte] = value
    for row in range(1, 8):
        above = tables[row - 1]
        tables[row] = (above >> np.uint32(8)) ^ tables[0, above & np.uint32(255)]
    return tables


_T = _tables()


@numba.njit(inline="always")
def _word(data: np.ndarray, at: int) -> np.uint32:
    return (
        np.uint32(data[at])
        | np.uint32(data[at + 1]) << np.uint32(8)
        | np.uint32(data[at + 2]) << np.uint32(16)
        | np.uint32(data[at + 3]) << np.uint32(24)
    )


@numba.njit(nogil=True, cache=True)
def crc32c(data: np.ndarray, start: int, stop: int) -> np.uint32:
    """Return the CRC-32C of ``data[start:stop]`` (uint8)."""
    crc = np.uint32(0xFFFFFFFF)
    low = np.uint32(255)
    at = start
    while at + 8 <= stop:
        a = crc ^ _word(data, at)
        b = _word(data, at + 4)
        crc = (
            _T[7, a & low]
            ^ _T[6, (a >> np.uint32(8)) & low]
            ^ _T[5, (a >> np.uint32(16)) & low]
            ^ _T[4, a >> np.uint32(24)]
            ^ _T[3, b & low]
            ^ _T[2, (b >> np.uint32(8)) & low]
            ^ _T[1, (b >> np.uint32(16)) & low]
            ^ _T[0, b >> np.uint32(24)]
        )
        at += 8
    while at < stop:
        crc = (crc >> np.uint32(8)) ^ _T[0, (crc ^ np.uint32(data[at])) & low]
        at += 1
    return crc ^ np.uint32(0xFFFFFFFF)


@numba.njit(nogil=True, cache=True)
def masked_crc32c(data: np.ndarray, start: int, stop: int) -> np.uint32:
    """Return ``rotate right(crc, 15) + 0xA282EAD8``: what a TFRecord holds in place of the CRC."""
    crc = crc32c(data, start, stop)
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return np.uint32(rotated + np.uint32(0xA282EAD8))
