"""Lines of Vowpal Wabbit's text format to flat arrays, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from weiml.data.formats.names import NameTable, find_name
from weiml.data.formats.numbers import parse_number

__all__ = ["LABEL", "SCALE", "VALUE", "Parsed", "namespace_spans", "parse_vw"]

LABEL, SCALE, VALUE = 0, 1, 2

NO_BAR = 1
MANY_WORDS = 2
UNKNOWN_NAMESPACE = 3
NO_NAME = 4
NO_NUMBER = 5

_BAR, _COLON, _QUOTE = 124, 58, 39


class Parsed(NamedTuple):
    """R examples with F features in N namespace occurrences, in the order of the lines."""

    line: np.ndarray  # int64 (R,): the example's place among the lines
    numbers: np.ndarray  # float64 (R, 3): label, importance, base; NaN where left out
    tag: np.ndarray  # int64 (R, 2): its span; -1 without
    occurrence: np.ndarray  # int64 (N, 2): example, column
    scale: np.ndarray  # float64 (N,)
    owner: np.ndarray  # int64 (F,): the occurrence
    name: np.ndarray  # int64 (F, 2): span
    value: np.ndarray  # float64 (F,)
    slow: (
        np.ndarray
    )  # int64 (S, 4): (LABEL, 3 example + place | SCALE, occurrence | VALUE, feature), span
    errors: np.ndarray  # int64 (E, 4): line, code, span


@numba.njit(inline="always")
def _is_space(byte: np.uint8) -> bool:
    return byte == 32 or byte == 9 or byte == 13 or byte == 10


@numba.njit(nogil=True, cache=True)
def _word(data: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """Return the span of the next word, ended by space or bar; empty before a bar or the end."""
    while at < stop and _is_space(data[at]):
        at += 1
    end = at
    while end < stop and not _is_space(data[end]) and data[end] != _BAR:
        end += 1
    return at, end


@numba.njit(inline="always")
def _colon(data: np.ndarray, start: int, stop: int) -> int:
    while start < stop and data[start] != _COLON:
        start += 1
    return start


def parse_vw(data: np.ndarray, starts: np.ndarray, table: NameTable, strict: bool) -> Parsed:
    """Return what the lines hold; features of namespaces not in `table` are passed over.

    With `strict` such a namespace is an error of its line.
    """
    bars = int(np.count_nonzero(data == _BAR))
    words = int(np.count_nonzero((data == 32) | (data == 9))) + bars + len(starts)
    return Parsed(*_parse(data, starts, *table, strict, bars, words))


@numba.njit(nogil=True, cache=True)
def _head(data: np.ndarray, at: int, stop: int, words: np.ndarray) -> tuple[int, int, int, int]:
    """Return (where the bar is, number of words before it, span of the tag); -1 without a tag."""
    count = 0
    begin, end = _word(data, at, stop)
    while begin < end and count < 5:
        words[count, 0], words[count, 1] = begin, end
        count += 1
        begin, end = _word(data, end, stop)
    if begin < end or begin == stop:
        return begin, count, -1, -1
    # The last word is the tag if it touches the bar, or begins with a quote.
    if count and (words[count - 1, 1] == begin or data[words[count - 1, 0]] == _QUOTE):
        start, last = words[count - 1, 0], words[count - 1, 1]
        if data[start] == _QUOTE:
            start += 1
        return begin, count - 1, start, last
    return begin, count, -1, -1


@numba.njit(nogil=True, cache=True)
def _parse(
    data: np.ndarray,
    starts: np.ndarray,
    names: np.ndarray,
    offsets: np.ndarray,
    slots: np.ndarray,
    strict: bool,
    bars: int,
    room: int,
) -> tuple[np.ndarray, ...]:
    n = starts.size - 1
    line_of = np.empty(n, np.int64)
    numbers = np.full((n, 3), np.nan)
    tag = np.full((n, 2), -1, np.int64)
    occurrence = np.empty((bars, 2), np.int64)
    scale = np.empty(bars)
    owner = np.empty(room, np.int64)
    name = np.empty((room, 2), np.int64)
    value = np.empty(room)
    slow = np.empty((3 * n + bars + room, 4), np.int64)
    errors = np.empty((n, 4), np.int64)
    words = np.empty((5, 2), np.int64)
    rows = spaces = features = slows = wrong = 0
    for line in range(n):
        stop = starts[line + 1]
        begin, end = _word(data, starts[line], stop)
        if begin == stop:
            continue
        kept = (spaces, features, slows)
        error = 0
        at, count, tag_start, tag_stop = _head(data, starts[line], stop, words)
        begin, end = starts[line], at
        if at == stop or data[at] != _BAR:
            error = MANY_WORDS if count == 5 else NO_BAR
        elif count > 3:
            error = MANY_WORDS
        else:
            tag[rows, 0], tag[rows, 1] = tag_start, tag_stop
            for i in range(3):
                numbers[rows, i] = np.nan
                if i < count:
                    numbers[rows, i], easy = parse_number(data, words[i, 0], words[i, 1])
                    if not easy:
                        slow[slows] = (LABEL, 3 * rows + i, words[i, 0], words[i, 1])
                        slows += 1
        guess = 0
        while error == 0 and at < stop and data[at] == _BAR:
            # No space after the bar: the word that follows is the namespace.
            at += 1
            begin, end = at, at
            if at < stop and not _is_space(data[at]) and data[at] != _BAR:
                begin, end = _word(data, at, stop)
            colon = _colon(data, begin, end)
            if begin == end:
                begin, after = _word(data, end, stop)
                if begin == after:  # a bar without anything: no namespace
                    at = begin
                    continue
                begin = end
            hint = guess if guess < offsets.size - 1 else -1
            column = find_name(data, begin, colon, names, offsets, slots, hint)
            if column < 0 and strict:
                error, end = UNKNOWN_NAMESPACE, colon
                break
            guess = column + 1
            occurrence[spaces, 0], occurrence[spaces, 1] = rows, column
            scale[spaces] = 1.0
            if colon < end:
                scale[spaces], easy = parse_number(data, colon + 1, end)
                if not easy:
                    slow[slows] = (SCALE, spaces, colon + 1, end)
                    slows += 1
            spaces += 1
            begin, end = _word(data, end, stop)
            while begin < end:
                colon = _colon(data, begin, end)
                if colon == begin:
                    error = NO_NAME
                    break
                if column >= 0:
                    owner[features] = spaces - 1
                    name[features, 0], name[features, 1] = begin, colon
                    value[features] = 1.0
                    if colon < end:
                        value[features], easy = parse_number(data, colon + 1, end)
                        if not easy:
                            slow[slows] = (VALUE, features, colon + 1, end)
                            slows += 1
                    features += 1
                begin, end = _word(data, end, stop)
            if error == 0:
                at = begin
        if error:
            errors[wrong] = (line, error, begin, end)
            wrong += 1
            spaces, features, slows = kept
            continue
        line_of[rows] = line
        rows += 1
    return (
        line_of[:rows],
        numbers[:rows],
        tag[:rows],
        occurrence[:spaces],
        scale[:spaces],
        owner[:features],
        name[:features],
        value[:features],
        slow[:slows],
        errors[:wrong],
    )


@numba.njit(nogil=True, cache=True)
def namespace_spans(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the spans of the namespaces' names; empty for the one without a name."""
    count = 0
    for byte in data:
        count += byte == _BAR
    first = np.empty(count, np.int64)
    last = np.empty(count, np.int64)
    i = 0
    for at in range(data.size):
        if data[at] == _BAR:
            end = at + 1
            while end < data.size and not (_is_space(data[end]) or data[end] == _BAR):
                end += 1
            begin = end
            while begin < data.size and data[begin] != 10 and _is_space(data[begin]):
                begin += 1
            bare = end == at + 1 and (
                begin == data.size or data[begin] == 10 or data[begin] == _BAR
            )
            if not bare:
                first[i], last[i] = at + 1, _colon(data, at + 1, end)
                i += 1
    return first[:i], last[:i]
