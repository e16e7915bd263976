"""What the compiled loop leaves to Python: numbers written in rare ways, and bad rows."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence

import numpy as np

from weiml.data.batches.csv import fields
from weiml.data.batches.csv.blocks import Block
from weiml.data.formats import BadRow

__all__ = ["Rarities"]

_SHOWN = 4096  # bytes of a bad row
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
_FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_WANTED = {
    fields.NUMBER: "a number",
    fields.INTEGER: "a whole number of seconds",
    fields.FLAG: "0, 1, true or false",
}


class Rarities:
    """The bad rows of a block."""

    def __init__(
        self, block: Block, columns: Sequence[str], kinds: np.ndarray, required: np.ndarray
    ) -> None:
        self._block, self._columns = block, columns
        self._kinds, self._required = kinds, required
        self._reasons: dict[int, tuple[str, int | None]] = {}  # by start: why, and the stop

    def add_rows(self, bad: np.ndarray) -> None:
        """Take in what `parse_rows` lists as bad."""
        for start, stop, field, reason in bad.tolist():
            self._reasons[start] = self._reason(field, reason), stop

    def resolve(
        self, slow: np.ndarray, targets: np.ndarray, steps: np.ndarray, starts: np.ndarray
    ) -> np.ndarray | None:
        """Read cells that `parse_rows` lists as slow, and put their numbers in place.

        Returns:
            which rows are good, bool; None: all.
        """
        kept = None
        for row, field, address, size in slow.tolist():
            raw = ctypes.string_at(address, size)
            kind = int(self._kinds[field])
            value = _value(kind, raw)
            if value is None or (self._required[field] and value != value):
                kept = np.ones(starts.size, bool) if kept is None else kept
                kept[row] = False
                reason = f"column {self._columns[field]!r}: {raw[:80]!r} is not {_WANTED[kind]}"
                self._reasons.setdefault(int(starts[row]), (reason, None))
                continue
            made = ctypes.c_int64 if kind == fields.INTEGER else ctypes.c_double
            made.from_address(int(targets[field] + row * steps[field])).value = value
        return kept

    def bad_rows(self) -> list[BadRow]:
        """Return all bad rows in their order."""
        return [
            BadRow(
                place=f"{self._block.path}, line {self._block.line_of(start)}",
                reason=reason,
                raw=self._raw(start, stop),
            )
            for start, (reason, stop) in sorted(self._reasons.items())
        ]

    def starts(self) -> list[int]:
        """Return where the bad rows begin in the block, in their order."""
        return sorted(self._reasons)

    def _reason(self, field: int, reason: int) -> str:
        if reason == fields.FEW:
            return f"it has {field} fields, but there are {len(self._columns)} columns"
        if reason == fields.MANY:
            return f"it has {field} fields, but there are only {len(self._columns)} columns"
        where = f"column {self._columns[field]!r}" if field < len(self._columns) else "a last field"
        if reason == fields.OPEN:
            return f"{where}: its quote is never closed"
        if reason == fields.GARBLED:
            return f"{where} is not UTF-8"
        return f"{where} is empty and must not be"

    def _raw(self, start: int, stop: int | None) -> bytes:
        text = self._block.text
        if stop is None:
            ends = np.flatnonzero(np.isin(text[start : self._block.size], (10, 13)))
            stop = start + int(ends[0])
        return text[start:stop].tobytes().rstrip(b"\r\n")[:_SHOWN]


def _value(kind: int, raw: bytes) -> float | int | None:
    """Return what a field says, None if nothing of its kind."""
    text = raw.decode("ascii", "replace").strip()
    if kind == fields.FLAG:
        return _FLAGS.get(text.lower())
    if kind == fields.INTEGER and _WHOLE.fullmatch(text):
        number = int(text)
        return number if -(2**63) <= number < 2**63 else None
    value = float(text) if _NUMBER.fullmatch(text) else None
    if kind == fields.INTEGER and value is not None:
        return int(value) if value.is_integer() and abs(value) < 2**63 else None
    return value
