"""Whether bytes are UTF-8: a whole block at once, or one field of a block that is not."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from weiml.data.batches.csv.rows import byte_at

__all__ = ["all_utf8", "is_utf8"]


def all_utf8(text: np.ndarray, size: int) -> bool:
    """Return whether the first `size` bytes of `text` uint8 are UTF-8, by Arrow's fast check."""
    buffers = [None, pa.py_buffer(np.array([0, size], np.int64)), pa.py_buffer(text)]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, buffers).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


@numba.njit(nogil=True, cache=True)
def is_utf8(address: int, size: int) -> bool:
    """Return whether `size` bytes at `address` are UTF-8 (RFC 3629, table of section 4)."""
    at = 0
    while at < size:
        lead = byte_at(address + at)
        if lead < 0x80:
            at += 1
            continue
        more = 1 + (lead >= 0xE0) + (lead >= 0xF0)
        if lead < 0xC2 or lead > 0xF4 or at + more >= size:
            return False
        # The second byte is also held to no overlong forms, no surrogates, nothing over U+10FFFF.
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        if not low <= byte_at(address + at + 1) <= high:
            return False
        for place in range(at + 2, at + more + 1):
            if byte_at(address + place) & 0xC0 != 0x80:
                return False
        at += more + 1
    return True
