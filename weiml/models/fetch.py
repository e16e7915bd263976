"""A batch made ready for its step, its rows on their way from the parameter server, and mending.

Rows that are asked for while the step before still runs do not show what that step pushes. Where
pushes are differences of state, they are added to the rows when those arrive (read your writes).
It knows neither models nor clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numba
import numpy as np

from weiml.features import Batch
from weiml.hashing import mix64
from weiml.ps import Ticket

__all__ = ["Fetch", "Lookup", "Prepared"]

_FREE = np.int32(-1)
_ONE = np.uint64(1)


class Lookup(NamedTuple):
    """Which rows of a table a batch looks up, cell by cell; a cell is one slot of one example."""

    keys: np.ndarray
    """uint64 (m,), distinct."""
    positions: np.ndarray
    """int32 (n,): where each looked up key stands in `keys`; see the model's `prepare`."""
    values: np.ndarray | None
    """float32 (n,), or None where all are 1."""
    offsets: np.ndarray
    """int32 (B * S + 1,): where each cell begins."""


class Prepared(NamedTuple):
    """A batch and what a step needs of it that takes no server, made ahead in any thread."""

    batch: Batch
    lookups: Mapping[str, Lookup]
    """By table. Tables that are looked up by the same keys share theirs."""


@dataclass(kw_only=True, eq=False)
class Fetch:
    """A batch whose rows are on their way."""

    prepared: Prepared
    tickets: Mapping[str, Ticket]
    """The pull of each table."""
    missed: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """(keys uint64 (k,) distinct, differences float32 (k, width)) pushed by the same worker that
    the rows do not show."""

    def wait(self) -> None:
        """Wait until the rows are here."""
        for ticket in self.tickets.values():
            ticket.wait()

    def mend(self, table: str, state: np.ndarray) -> None:
        """Add what was missed to `state` float32 (m, width), the rows of the table's lookup."""
        for keys, differences in self.missed:
            _add_differences(state, self.prepared.lookups[table].keys, keys, differences)
        self.missed = []


@numba.njit(cache=True, nogil=True)
def _add_differences(
    state: np.ndarray, keys: np.ndarray, others: np.ndarray, differences: np.ndarray
) -> None:
    """Add ``differences[j]`` to ``state[i]`` where ``keys[i] == others[j]``."""
    size = 16
    while size < 2 * others.size:
        size *= 2
    mask = np.uint64(size - 1)
    slots = np.full(size, _FREE, np.int32)
    for j in range(others.size):
        slot = mix64(others[j]) & mask
        while slots[slot] >= 0:
            slot = (slot + _ONE) & mask
        slots[slot] = j
    for i in range(keys.size):
        slot = mix64(keys[i]) & mask
        while slots[slot] >= 0:
            j = slots[slot]
            if others[j] == keys[i]:
                for c in range(state.shape[1]):
                    state[i, c] += differences[j, c]
                break
            slot = (slot + _ONE) & mask
