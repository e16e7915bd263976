from __future__ import annotations

import numpy as np
import pytest

from weiml.data.formats.crc32c import crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "crc"),  # RFC 3720, appendix B.4
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_known_answers(data: bytes, crc: int) -> None:
    padded = np.frombuffer(b"x" + data + b"y", np.uint8)
    assert crc32c(padded, 1, 1 + len(data)) == crc
    mask = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(padded, 1, 1 + len(data)) == mask
