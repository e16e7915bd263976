"""XXH64 against its published values, and the digits kernels against hashing the text."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.hashing.xxh64 import (
    decimal_digest,
    medium_decimal_digest,
    short_decimal_digest,
    xxh64,
)


@numba.njit
def of_bytes(data: np.ndarray, seed: np.uint64) -> Any:
    return xxh64(data.ctypes.data, data.size, seed)


@numba.njit
def of_short(number: np.uint64, seed: np.uint64) -> Any:
    return short_decimal_digest(number, seed)


@numba.njit
def of_medium(numbers: np.ndarray, seed: np.uint64) -> Any:
    out = np.empty(numbers.size, np.uint64)
    for i in range(numbers.size):
        out[i] = medium_decimal_digest(numbers[i], seed)
    return out


def digest(text: str, seed: int = 0) -> int:
    return int(of_bytes(np.frombuffer(text.encode() + b"\0", np.uint8)[:-1], np.uint64(seed)))


@pytest.mark.parametrize(
    ("text", "seed", "expected"),
    [
        ("", 0, 0xEF46DB3751D8E999),
        ("a", 0, 0xD24EC4F1A98C6E5B),
        ("abc", 0, 0x44BC2CF5AD770999),
        ("Nobody inspects the spammish repetition", 0, 0xFBCEA83C8A378BF1),
        ("xxhash", 0, 0x32DD38952C4BC720),
        ("xxhash", 20141025, 0xB559B98D844E0635),
    ],
)
def test_known_answers(text: str, seed: int, expected: int) -> None:
    assert digest(text, seed) == expected


def test_every_byte_counts_at_every_length_and_nothing_beyond_is_read() -> None:
    rng = np.random.default_rng(0)
    for length in range(100):
        data = rng.integers(0, 256, length + 16).astype(np.uint8)
        exact = int(of_bytes(data[:length].copy(), np.uint64(7)))
        assert int(of_bytes(data[:length], np.uint64(7))) == exact
        for i in range(length):
            changed = data[:length].copy()
            changed[i] ^= 1
            assert int(of_bytes(changed, np.uint64(7))) != exact


@given(st.integers(0, 2**64 - 1), st.booleans(), st.integers(0, 2**64 - 1))
def test_numbers_hash_as_their_text(magnitude: int, negative: bool, seed: int) -> None:
    text = f"-{magnitude}" if negative else str(magnitude)
    got = decimal_digest(np.uint64(magnitude), negative, np.uint64(seed))
    assert int(got) == digest(text, seed)


@pytest.mark.parametrize("negative", [False, True])
def test_every_number_of_digits(negative: bool) -> None:
    for digits in range(1, 21):
        for number in (10 ** (digits - 1), min(10**digits, 2**64) - 1, 10 ** (digits - 1) + 1):
            text = f"-{number}" if negative else str(number)
            got = decimal_digest(np.uint64(number), negative, np.uint64(3))
            assert int(got) == digest(text, 3)


@given(st.integers(0, 10**7 - 1), st.integers(0, 2**64 - 1))
def test_short_numbers_hash_as_their_text(number: int, seed: int) -> None:
    assert int(of_short(np.uint64(number), np.uint64(seed))) == digest(str(number), seed)


@given(st.lists(st.integers(0, 10**16 - 1), min_size=1, max_size=40), st.integers(0, 2**64 - 1))
def test_medium_numbers_hash_as_their_text(numbers: list[int], seed: int) -> None:
    got = of_medium(np.array(numbers, np.uint64), np.uint64(seed))
    assert got.tolist() == [digest(str(number), seed) for number in numbers]


def test_medium_numbers_around_where_the_quotient_by_floats_may_be_off() -> None:
    rng = np.random.default_rng(0)
    quotients = np.concatenate([rng.integers(0, 10**8, 300), [0, 1, 9, 10, 10**8 - 1]])
    numbers = (quotients[:, None] * 10**8 + np.array([0, 1, 10**8 - 1])).reshape(-1)
    numbers = np.concatenate([numbers, [10**d + e for d in range(1, 16) for e in (-1, 0, 1)]])
    got = of_medium(numbers.astype(np.uint64), np.uint64(5))
    assert got.tolist() == [digest(str(number), 5) for number in numbers.tolist()]


def test_the_division_by_reciprocals_is_exact() -> None:
    # `_digits` cuts 8 digits into fours, twos and ones: the ranges of its three multiplications.
    fours = np.arange(10**4, dtype=np.uint64)
    assert np.array_equal((fours * np.uint64(10486)) >> np.uint64(20), fours // np.uint64(100))
    twos = np.arange(100, dtype=np.uint64)
    assert np.array_equal((twos * np.uint64(103)) >> np.uint64(10), twos // np.uint64(10))
    borders = np.arange(0, 10**8, 10**4, dtype=np.uint64)
    for eights in (borders, borders + np.uint64(9_999)):
        divided = (eights * np.uint64(0xD1B71759)) >> np.uint64(45)
        assert np.array_equal(divided, eights // np.uint64(10**4))
