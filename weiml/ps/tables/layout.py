"""What the words of a row mean: the optimizer's state, then the statistics that a table asks for.

It knows rows by their addresses and says how they start, learn, count and are read; it knows no
store and no table. All loops are compiled. Docs: docs/ps-tables.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.kernels import initial_weights
from weiml.ps.optimizers.rows import prefetch_row, read_rows, write_rows
from weiml.ps.rows.blocks import Block, add_block, copy_block
from weiml.ps.rows.memory import address_of, floats, load_f32, load_u32, store_f32, store_u32
from weiml.ps.tables.bfloat16 import expand, pack, stretches

if TYPE_CHECKING:
    from weiml.ps.tables.config import TableConfig

__all__ = ["RowLayout", "as_occurrences", "row_addresses"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LATEST = 2**32 - 1
_MOST = np.int64(_LATEST)


@numba.njit(cache=True, nogil=True)
def _add_state(addresses: np.ndarray, differences: np.ndarray) -> None:
    width = differences.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, width)
        row = floats(addresses[i], width)
        for c in range(width):
            row[c] += differences[i, c]


@numba.njit(cache=True, nogil=True)
def _count_rows(addresses: np.ndarray, offset: int, occurrences: np.ndarray) -> None:
    for i in range(addresses.size):
        at = addresses[i] + offset
        more = occurrences[i] if occurrences.size else np.int64(1)
        store_u32(at, np.uint32(min(np.int64(load_u32(at)) + more, _MOST)))


@numba.njit(cache=True, nogil=True)
def _see_rows(addresses: np.ndarray, offset: int, step: np.uint32) -> None:
    for i in range(addresses.size):
        at = addresses[i] + offset
        store_u32(at, max(load_u32(at), step))


@numba.njit(cache=True, nogil=True)
def _add_numbers(addresses: np.ndarray, offset: int, numbers: np.ndarray) -> None:
    for i in range(addresses.size):
        at = addresses[i] + offset
        store_f32(at, load_f32(at) + numbers[i])


class RowLayout:
    """The rows of one table. Addresses are int64 (n,), of rows' first words; none may be 0."""

    def __init__(self, config: TableConfig) -> None:
        self.config = config
        self.optimizer = config.optimizer
        self.count = config.statistic_offset("count")
        self.last_seen = config.statistic_offset("last_seen")
        self.shows = config.statistic_offset("shows")
        self.clicks = config.statistic_offset("clicks")
        self._packed = config.weights == "bfloat16"
        self._salt = np.uint64(mix64(np.uint64(config.seed) + _GOLDEN))

    # Rows that start

    def initialise(self, addresses: np.ndarray, keys: np.ndarray) -> None:
        """Write the state that rows of `keys` uint64 (n,) start with; statistics stay."""
        config = self.config
        weights = initial_weights(keys, config.dim, np.uint64(config.seed), config.init_scale)
        self._start(addresses, keys, np.asarray(weights))

    def fresh_rows(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows that `keys` start with: uint32 (n, payload_words)."""
        rows = np.zeros((keys.size, self.config.payload_words), np.uint32)
        self.initialise(row_addresses(rows), keys)
        return rows

    def zero_row(self) -> np.ndarray:
        """Return a row whose weights are 0: uint32 (1, payload_words)."""
        row = np.zeros((1, self.config.payload_words), np.uint32)
        key = np.zeros(1, np.uint64)
        self._start(row_addresses(row), key, np.zeros((1, self.config.dim), np.float32))
        return row

    def _start(self, addresses: np.ndarray, keys: np.ndarray, weights: np.ndarray) -> None:
        if not self._packed:
            self.optimizer.init(addresses, weights)
            return
        state = np.zeros((addresses.size, self.config.width), np.float32)
        self.optimizer.init(row_addresses(state), weights)
        self._put(addresses, keys, state, 0)

    # Rows that learn

    def learn(
        self,
        addresses: np.ndarray,
        keys: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None,
        squares: np.ndarray | None,
        sequence: int,
    ) -> None:
        """Apply gradients float32 (n, dim) in order, each repeated row's one after the other."""

        def act(rows: np.ndarray, part: slice) -> None:
            some_counts = None if counts is None else counts[part]
            some_squares = None if squares is None else squares[part]
            self.optimizer.apply(rows, grads[part], some_counts, some_squares)

        self._change(addresses, keys, sequence, act)

    def add(
        self, addresses: np.ndarray, keys: np.ndarray, differences: np.ndarray, sequence: int
    ) -> None:
        """Add differences float32 (n, width) to the state, in order."""

        def act(rows: np.ndarray, part: slice) -> None:
            _add_state(rows, differences[part])

        self._change(addresses, keys, sequence, act)

    def put(
        self, addresses: np.ndarray, keys: np.ndarray, state: np.ndarray, sequence: int
    ) -> None:
        """Set the state to float32 (n, width); statistics stay."""
        if self._packed:
            self._put(addresses, keys, state, sequence)
        else:
            write_rows(addresses, state)

    def _change(
        self,
        addresses: np.ndarray,
        keys: np.ndarray,
        sequence: int,
        act: Callable[[np.ndarray, slice], None],
    ) -> None:
        if not self._packed:
            act(addresses, slice(None))
            return
        start = 0
        for stop in stretches(addresses).tolist():
            part = slice(start, stop)
            state = self.state(addresses[part])
            act(row_addresses(state), part)
            self._put(addresses[part], keys[part], state, sequence)
            start = stop

    def _put(
        self, addresses: np.ndarray, keys: np.ndarray, state: np.ndarray, sequence: int
    ) -> None:
        salt = np.uint64(mix64(np.uint64(sequence) ^ self._salt))
        pack(addresses, keys, self.config.dim, state.view(np.uint32), salt)

    # Rows that are read

    def weights(self, addresses: np.ndarray) -> np.ndarray:
        """Return the weights that are served: float32 (n, dim)."""
        if not self._packed:
            return self.optimizer.read(addresses, self.config.dim)
        state = self.state(addresses)
        return self.optimizer.read(row_addresses(state), self.config.dim)

    def state(self, addresses: np.ndarray) -> np.ndarray:
        """Return the state, bfloat16 weights expanded: a new float32 (n, width)."""
        if not self._packed:
            return np.asarray(read_rows(addresses, 0, self.config.width))
        out = np.empty((addresses.size, self.config.width), np.float32)
        expand(addresses, self.config.dim, out.view(np.uint32))
        return out

    # The same for rows that are visited while they are looked up; None where that cannot be

    @property
    def learn_block(self) -> Block | None:
        """What `learn` does without counts and squares, if a push notes nothing besides."""
        return self.optimizer.step_block(self.config.dim) if self._bare else None

    @property
    def add_block(self) -> Block | None:
        """What `add` does, if a push notes nothing besides."""
        return add_block(self.config.width) if self._bare else None

    @property
    def weights_block(self) -> Block | None:
        """What `weights` does."""
        return None if self._packed else self.optimizer.read_block(self.config.dim)

    @property
    def state_block(self) -> Block | None:
        """What `state` does."""
        return None if self._packed else copy_block(self.config.width)

    @property
    def _bare(self) -> bool:
        return not self._packed and self.count is None and self.last_seen is None

    # Statistics

    def note(self, addresses: np.ndarray, counts: np.ndarray | None, step: int) -> None:
        """Count a push of rows, at `step`; `counts` float32 (n,) are its examples by row."""
        if self.count is not None:
            occurrences = np.empty(0, np.int64) if counts is None else as_occurrences(counts)
            _count_rows(addresses, 4 * self.count, occurrences)
        self.see(addresses, step)

    def see(self, addresses: np.ndarray, step: int) -> None:
        """Note that rows were seen at `step`, unless it was later before."""
        if self.last_seen is not None:
            _see_rows(addresses, 4 * self.last_seen, np.uint32(min(max(step, 0), _LATEST)))

    def add_statistics(
        self, addresses: np.ndarray, shows: np.ndarray, clicks: np.ndarray, step: int
    ) -> None:
        """Add float32 (n,) to shows and to clicks, in order, as of `step`."""
        for offset, numbers in ((self.shows, shows), (self.clicks, clicks)):
            if offset is not None:
                _add_numbers(addresses, 4 * offset, numbers)
        self.see(addresses, step)


def row_addresses(rows: np.ndarray) -> np.ndarray:
    """Return the addresses of the rows of a contiguous matrix, which the caller keeps alive."""
    return address_of(rows) + np.arange(len(rows), dtype=np.int64) * rows.strides[0]


def as_occurrences(counts: np.ndarray) -> np.ndarray:
    """Return counts float32 (n,) as whole numbers, 1 or more: int64 (n,)."""
    return np.clip(np.rint(counts), 1, 2**31).astype(np.int64)
