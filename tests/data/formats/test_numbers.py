from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weiml.data.formats.numbers import exact_numbers, parse_integer, parse_number, take_spans

FORMS = st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.from_regex(
    r"-?\d{1,20}(\.\d{0,20})?([eE][+-]?\d{1,3})?", fullmatch=True
).filter(str.isascii)


def as_array(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


@given(FORMS)
@example("1e23")
@example("9007199254740993")
@example("-0.0")
@example("581632598.916087791")
@example("123456789012345e22")
def test_easy_numbers_are_exact_and_the_others_are_left_to_arrow(text: str) -> None:
    data = as_array(text)
    value, easy = parse_number(data, 0, data.size)
    if not easy:
        values, fine = exact_numbers(data, np.array([0]), np.array([data.size]))
        assert fine[0]
        value = values[0]
    assert value == float(text)
    assert np.signbit(value) == np.signbit(float(text))


@pytest.mark.parametrize("text", ["", "-", ".", "e5", "1e", "1e+", "0x1", "1 ", "1,2", "--1", "1-"])
def test_what_is_no_number(text: str) -> None:
    data = as_array(text)
    assert not parse_number(data, 0, data.size)[1]
    assert not exact_numbers(data, np.array([0]), np.array([data.size]))[1][0]


@pytest.mark.parametrize("text", ["+1", ".5", "5.", "inf", "-Infinity", "NaN", "1e400", "1e-400"])
def test_rarer_forms(text: str) -> None:
    data = as_array(text)
    value, easy = parse_number(data, 0, data.size)
    values, fine = exact_numbers(data, np.array([0]), np.array([data.size]))
    assert fine[0]
    np.testing.assert_equal(values[0], float(text))
    assert not easy or value == float(text)


def test_whole_numbers() -> None:
    for text, value in [("0", 0), ("999999999999999999", 10**18 - 1), ("007", 7)]:
        assert parse_integer(as_array(text), 0, len(text)) == value
    for text in ["", "-1", "+1", "1.0", "a", "1000000000000000000"]:
        assert parse_integer(as_array(text), 0, len(text)) == -1


def test_spans_are_taken() -> None:
    data = as_array("abcdef")
    taken = take_spans(data, np.array([2, 0, 5]), np.array([4, 0, 6]))
    assert taken == pa.array([b"cd", b"", b"f"])
    assert len(take_spans(data, np.empty(0, np.int64), np.empty(0, np.int64))) == 0
