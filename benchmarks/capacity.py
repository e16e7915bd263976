"""How many rows fit: distinct keys inserted, updated in another order, pulled and verified.

    python -m benchmarks.capacity [--quick] [--rows 1000000000]

A sparse table of FTRL rows (z, n), filled to 0.93, is given every key once with a gradient, then
every key again in another order with another gradient, then all are pulled and held to the
equations in numpy, bit by bit; keys that were never given must be missing. Resident memory is that
of the whole process less what it took before the table was made. The full run takes 20 GB.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numba
import numpy as np

from benchmarks.harness import Case, run
from benchmarks.row_peers import keys_at
from weiml.ps.optimizers import FTRL
from weiml.ps.tables.sparse import SparseTable, TableConfig

ROWS = 1_000_000_000
QUICK_ROWS = 16_000_000
CHUNK = 1 << 20
MOST_BYTES = 20.0
RULE = FTRL(alpha=0.1, beta=1.0, l1=0.01, l2=1.0)


@numba.njit(cache=True, nogil=True)
def gradients(keys: np.ndarray, turn: int) -> np.ndarray:
    """Return float32 (n, 1) in -1 … 1 that depend on the key and the turn alone."""
    out = np.empty((keys.size, 1), np.float32)
    for i in range(keys.size):
        bits = (keys[i] >> np.uint64(20 * turn)) & np.uint64(0xFFFF)
        out[i, 0] = (np.float32(bits) - np.float32(32768)) / np.float32(32768)
    return out


def weights(keys: np.ndarray) -> np.ndarray:
    """Return the weights after both gradients, by the equations in float32 numpy."""
    alpha, beta, l1, l2 = RULE.scalars
    z = np.zeros(keys.size, np.float32)
    n = np.zeros(keys.size, np.float32)
    for turn in range(2):
        g = gradients(keys, turn)[:, 0]
        grown = n + g * g
        shrunk = np.maximum(z - l1, 0) + np.minimum(z + l1, 0)
        z += g + (np.sqrt(grown) - np.sqrt(n)) * shrunk / (beta + np.sqrt(n) + alpha * l2)
        n = grown
    shrunk = np.maximum(z - l1, 0) + np.minimum(z + l1, 0)
    return np.asarray(-alpha * shrunk / (beta + np.sqrt(n) + alpha * l2))


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@dataclass
class Trial:
    """What happened to a table of some rows."""

    rows: int
    seconds: dict[str, float] = field(default_factory=dict)
    base: int = 0
    peak: int = 0
    bytes_a_row: float = 0.0
    wrong: int = 0
    """Keys whose weight was not the expected one, or that were there and should not."""

    def run(self) -> Trial:
        """Insert, update, pull and verify; return this."""
        config = TableConfig(
            "capacity",
            optimizer=RULE,
            max_load=0.93,
            # What a large table's log takes by itself; in a small one it would be half of all.
            change_log_bytes=max(self.rows // 2, 1 << 20),
        )
        self.base = resident()
        table = SparseTable(config)

        def push(turn: int, keys: np.ndarray) -> None:
            table.push_gradients(keys, gradients(keys, turn), sequence=turn + 1)

        self._phase("insert", lambda keys: push(0, keys), step=1)
        assert len(table) == self.rows, f"{len(table)} rows, {self.rows} were inserted"
        self._phase("update", lambda keys: push(1, keys), step=self._stride())
        self.bytes_a_row = (resident() - self.base) / self.rows
        pulled: list[np.ndarray] = []

        def pull(keys: np.ndarray) -> None:
            pulled[:] = [table.pull_weights(keys)[:, 0]]

        def check(keys: np.ndarray) -> None:
            self.wrong += int((pulled[0] != weights(keys)).sum())

        self._phase("pull", pull, step=self._stride(), after=check)
        others = keys_at(np.arange(self.rows, self.rows + CHUNK))
        self.wrong += int((table.locate(others) != 0).sum())
        return self

    def _stride(self) -> int:
        """Return a step that visits all rows, far from the one before each time."""
        stride = int(self.rows * 0.618)
        while math.gcd(stride, self.rows) != 1:
            stride += 1
        return stride

    def _phase(
        self,
        name: str,
        act: Callable[[np.ndarray], None],
        *,
        step: int,
        after: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        """Time `act` on the keys of all rows, chunk by chunk; `after` is not timed."""
        spent = 0.0
        for start in range(0, self.rows, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, self.rows))
            keys = keys_at(numbers if step == 1 else _steps(numbers, step, self.rows))
            begin = time.perf_counter()
            act(keys)
            spent += time.perf_counter() - begin
            self.peak = max(self.peak, resident() - self.base)
            if after is not None:
                after(keys)
        self.seconds[name] = spent


@numba.njit(cache=True, nogil=True)
def _steps(numbers: np.ndarray, step: int, rows: int) -> np.ndarray:
    out = np.empty_like(numbers)
    for i in range(numbers.size):
        # Below 2⁶³ while there are fewer than 3 · 10⁹ rows.
        out[i] = (numbers[i] * step) % rows
    return out


def cases(quick: bool, rows: int) -> Iterator[Case]:
    rows = min(rows, QUICK_ROWS) if quick else rows
    few = Trial(max(rows // 100, 1000)).run()
    many = Trial(rows).run()
    regime = f"{rows:,} distinct keys in chunks of {CHUNK:,}, one thread, first run"
    verified = f"{many.wrong} of {rows:,} rows wrong"
    memory = f"{many.bytes_a_row:.2f} bytes a row, {many.peak / rows:.2f} at the peak"
    yield Case(
        case="resident memory",
        value=1024 / many.bytes_a_row,
        unit="rows/KiB",
        peer=f"{MOST_BYTES:g} bytes a row",
        peer_value=1024 / MOST_BYTES,
        goal=f"≤ {MOST_BYTES:g} bytes a row, all rows right",
        holds=many.bytes_a_row <= MOST_BYTES and not many.wrong,
        quality=f"{memory}; {verified}",
        regime=regime,
        n=1,
    )
    for name, seconds in many.seconds.items():
        yield Case(
            case=name,
            value=rows / seconds / 1e6,
            unit="M rows/s",
            peer=f"a table of {few.rows:,} rows",
            peer_value=few.rows / few.seconds[name] / 1e6,
            goal="none, shown for comparison",
            holds=not many.wrong,
            quality=verified,
            regime=regime,
            n=1,
        )


def main() -> None:
    """Run the benchmark."""
    run("capacity", cases, rows=ROWS)


if __name__ == "__main__":
    main()
