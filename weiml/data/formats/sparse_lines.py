"""Lines of ``label index:value …`` and ``label field:index:value …`` to columns, compiled."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from weiml.data.formats.lines import LineBlock
from weiml.data.formats.numbers import exact_numbers, parse_integer, parse_number
from weiml.data.formats.stream import BadRows

__all__ = ["SparseLines", "parse_lines"]

_LABEL, _VALUE = 0, 1

_NO_NUMBER = 1
_NO_INDEX = 2
_LOW_INDEX = 3
_NO_VALUE = 4
_NO_FIELD = 5
_NO_QID = 6

_REASONS = {
    _NO_NUMBER: "not a number",
    _NO_INDEX: "no index, a whole number of at most 18 digits",
    _LOW_INDEX: "an index below first_index={first_index}",
    _NO_VALUE: "without a value; where indices alone stand for 1, set implicit_ones=True",
    _NO_FIELD: "not of the form field:index:value",
    _NO_QID: "no query id, a whole number",
}


@dataclass(frozen=True)
class SparseLines:
    """What a block's lines hold, in flat arrays; entry e of example b lies between its offsets."""

    label: np.ndarray  # float64 (B,)
    qid: np.ndarray  # int64 (B,), -1 without
    offsets: np.ndarray  # int32 (B + 1,)
    field: np.ndarray  # int64 (E,), empty where the format has none
    key: np.ndarray  # int64 (E,), counted from 0
    value: np.ndarray  # float64 (E,)


def parse_lines(
    block: LineBlock, *, fields: bool, first_index: int, implicit_ones: bool, bad: BadRows
) -> SparseLines:
    """Return the examples of a block; lines that cannot be read are told to `bad` and left out."""
    data = np.frombuffer(block.data, np.uint8)
    parsed = _parse(data, block.starts, fields, first_index, implicit_ones, _room(data, fields))
    lines, label, qid, ends, field, key, value, slow, errors = parsed
    numbers, fine = exact_numbers(data, slow[:, 2], slow[:, 3])
    of_label = slow[:, 0] == _LABEL
    label[slow[of_label, 1]] = numbers[of_label]
    value[slow[~of_label, 1]] = numbers[~of_label]
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    wrong = slow[~fine]
    rows = np.where(
        wrong[:, 0] == _LABEL, wrong[:, 1], np.searchsorted(ends, wrong[:, 1], side="right")
    )
    found = {
        int(row): (lines[row], _NO_NUMBER, *span)
        for row, span in zip(rows[::-1], wrong[::-1, 2:], strict=True)
    }
    if found or len(errors):
        _tell(block, [*found.values(), *errors], first_index, bad)
    result = SparseLines(label, qid, offsets, field, key, value)
    return _without(result, np.array(sorted(found), np.int64)) if found else result


def _room(data: np.ndarray, fields: bool) -> int:
    """Return how many entries there can be: each follows a space, a tab or another entry's end."""
    return int(np.count_nonzero((data == 32) | (data == 9)))


def _tell(block: LineBlock, errors: list[tuple[int, ...]], first_index: int, bad: BadRows) -> None:
    for line, code, start, stop in sorted(errors, key=lambda error: int(error[0])):
        token = block.data[start:stop][:40].decode()
        reason = _REASONS[int(code)].format(first_index=first_index)
        column = (
            "the label"
            if code == _NO_NUMBER and start == _first_ink(block, int(line))
            else "a feature"
        )
        bad.add(block.name(int(line)), f"{column}: {token!r} is {reason}", block.line(int(line)))


def _first_ink(block: LineBlock, line: int) -> int:
    text = block.data[block.starts[line] : block.starts[line + 1]]
    return int(block.starts[line]) + len(text) - len(text.lstrip())


def _without(lines: SparseLines, rows: np.ndarray) -> SparseLines:
    """Return the lines without some of the rows."""
    keep = np.ones(len(lines.label), bool)
    keep[rows] = False
    lengths = np.diff(lines.offsets)
    entries = np.repeat(keep, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int32)
    field = lines.field[entries] if len(lines.field) else lines.field
    return SparseLines(
        lines.label[keep], lines.qid[keep], offsets, field, lines.key[entries], lines.value[entries]
    )


@numba.njit(inline="always")
def _is_space(byte: np.uint8) -> bool:
    return byte == 32 or byte == 9 or byte == 13 or byte == 10


@numba.njit(inline="always")
def _find(data: np.ndarray, wanted: int, start: int, stop: int) -> int:
    """Return where `wanted` stands in ``data[start:stop]``; `stop` if nowhere."""
    while start < stop and data[start] != wanted:
        start += 1
    return start


@numba.njit(nogil=True, cache=True)
def _token(data: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """Return the span of the next token before `stop`; empty at the end."""
    while at < stop and _is_space(data[at]):
        at += 1
    end = at
    while end < stop and not _is_space(data[end]):
        end += 1
    return at, end


@numba.njit(inline="always")
def _is_qid(data: np.ndarray, start: int, stop: int) -> bool:
    return (
        stop - start >= 4
        and data[start] == 113
        and data[start + 1] == 105
        and data[start + 2] == 100
        and data[start + 3] == 58
    )


@numba.njit(nogil=True, cache=True)
def _entry(
    data: np.ndarray, start: int, stop: int, fields: bool, first_index: int, implicit_ones: bool
) -> tuple[int, int, int, int]:
    """Return ``(error, field, key, start of the value)``; starts at `stop` if left out."""
    field = 0
    colon = _find(data, 58, start, stop)
    if fields:
        field = parse_integer(data, start, colon)
        if field < 0 or colon == stop:
            return _NO_FIELD, 0, 0, 0
        start = colon + 1
        colon = _find(data, 58, start, stop)
        if colon == stop and not implicit_ones:
            return _NO_FIELD, 0, 0, 0
    key = parse_integer(data, start, colon)
    if key < 0:
        return _NO_INDEX, 0, 0, 0
    if key < first_index:
        return _LOW_INDEX, 0, 0, 0
    if colon == stop:
        return 0 if implicit_ones else _NO_VALUE, field, key - first_index, stop
    return 0, field, key - first_index, colon + 1


@numba.njit(nogil=True, cache=True)
def _parse(
    data: np.ndarray,
    starts: np.ndarray,
    fields: bool,
    first_index: int,
    implicit_ones: bool,
    room: int,
) -> tuple[np.ndarray, ...]:
    n = starts.size - 1
    lines = np.empty(n, np.int64)
    label = np.empty(n, np.float64)
    qid = np.empty(n, np.int64)
    ends = np.empty(n, np.int64)
    field = np.empty(room if fields else 0, np.int64)
    key = np.empty(room, np.int64)
    value = np.empty(room, np.float64)
    slow = np.empty((n + room, 4), np.int64)
    errors = np.empty((n, 4), np.int64)
    rows = at = slows = wrong = 0
    for line in range(n):
        stop = _find(data, 35, starts[line], starts[line + 1])
        begin, end = _token(data, starts[line], stop)
        if begin == end:
            continue
        first_entry, first_slow = at, slows
        label[rows], easy = parse_number(data, begin, end)
        if not easy:
            slow[slows] = (_LABEL, rows, begin, end)
            slows += 1
        qid[rows] = -1
        error = 0
        begin, end = _token(data, end, stop)
        if not fields and _is_qid(data, begin, end):
            qid[rows] = parse_integer(data, begin + 4, end)
            if qid[rows] < 0:
                error = _NO_QID
            else:
                begin, end = _token(data, end, stop)
        while begin < end and error == 0:
            error, f, k, v = _entry(data, begin, end, fields, first_index, implicit_ones)
            if error:
                break
            if fields:
                field[at] = f
            key[at] = k
            value[at] = 1.0
            if v < end or (v == end and data[v - 1] == 58):
                value[at], easy = parse_number(data, v, end)
                if not easy:
                    slow[slows] = (_VALUE, at, v, end)
                    slows += 1
            at += 1
            begin, end = _token(data, end, stop)
        if error:
            errors[wrong] = (line, error, begin, end)
            wrong += 1
            at, slows = first_entry, first_slow
            continue
        lines[rows] = line
        ends[rows] = at
        rows += 1
    used = at if fields else 0
    return (
        lines[:rows],
        label[:rows],
        qid[:rows],
        ends[:rows],
        field[:used],
        key[:at],
        value[:at],
        slow[:slows],
        errors[:wrong],
    )
