"""Numbers out of text: the bits of Python's float(), or a refusal; never another number."""

from __future__ import annotations

import struct
from typing import Any

import numba
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weiml.data.batches.csv.numbers import parse_integer, parse_number
from weiml.data.batches.csv.words import PADDING


@numba.njit
def _number(address: int, size: int) -> Any:
    return parse_number(address, size)


@numba.njit
def _integer(address: int, size: int) -> Any:
    return parse_integer(address, size)


def room(text: str) -> np.ndarray:
    # What follows must not count: digits are the most likely to.
    return np.frombuffer(text.encode() + b"9" * PADDING, np.uint8)


def number(text: str) -> float | None:
    data = room(text)
    read, value = _number(data.ctypes.data, len(text.encode()))
    return float(value) if read else None


def bits(value: float) -> bytes:
    return struct.pack("d", value)


common = (
    st.floats(allow_nan=False, allow_infinity=False, width=64).map(repr)
    | st.floats(-1e7, 1e7, width=64).map(repr)
    | st.integers(-(10**19) + 1, 10**19 - 1).map(str)
    | st.tuples(st.floats(-1e9, 1e9), st.integers(0, 9)).map(lambda p: f"{p[0]:.{p[1]}f}")
    | st.tuples(st.floats(-1, 1), st.integers(0, 17)).map(lambda p: f"{p[0]:.{p[1]}e}")
)


@settings(max_examples=2000)
@given(common)
@example("9007199254740993")  # half-way between two numbers
@example("9007199254740993e15")
@example("1152921504606846977")
@example("0.000001e-290")
@example("1.7976931348623157e308")
@example("2.2250738585072014e-308")
def test_what_is_read_is_what_python_reads(text: str) -> None:
    value = number(text)
    assert value is None or bits(value) == bits(float(text))


@given(st.floats(1e-280, 1e280) | st.floats(-1e280, -1e-280))
def test_every_printed_number_of_usual_size_is_read(x: float) -> None:
    value = number(repr(x))
    assert value is not None
    assert bits(value) == bits(x)


@settings(max_examples=500)
@given(st.integers(2**53, 2**54).map(lambda m: 2 * m + 1), st.integers(-20, 8))
def test_ties_go_to_the_even_one(odd: int, shift: int) -> None:
    text = str(odd * 2**shift) if shift >= 0 else f"{odd}e{shift}"
    value = number(text)
    assert value is not None
    assert bits(value) == bits(float(text))


@settings(max_examples=500)
@given(st.text(st.sampled_from("0123456789+-.eE_ nainf\x00é"), min_size=1, max_size=24))
def test_no_other_text_is_a_number(text: str) -> None:
    value = number(text)
    if value is not None:
        assert bits(value) == bits(float(text))
        assert "_" not in text


@given(st.integers(-(10**17) + 1, 10**17 - 1), st.sampled_from(["", "+", "0"]))
def test_whole_numbers_are_exact(x: int, front: str) -> None:
    text = f"{front if x >= 0 else ''}{x}"
    data = room(text)
    assert _integer(data.ctypes.data, len(text)) == (True, x)


@given(st.text(st.sampled_from("0123456789+-. e"), min_size=1, max_size=22))
def test_no_other_text_is_a_whole_number(text: str) -> None:
    data = room(text)
    read, value = _integer(data.ctypes.data, len(text))
    if read:
        assert value == int(text)
        assert text == text.strip()
