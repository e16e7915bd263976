"""How many rows fit: distinct keys inserted, updated and pulled in one table, and what they take.

    python -m benchmarks.capacity [--quick] [--rows 1000000000]

FTRL rows of one weight: 8 bytes of key, 8 of state (z, n). Every key is pushed twice, the second
time in another order, then every row is pulled and compared with what two steps of the rule give.
What is counted is what the process has resident beyond what it had before, room to grow and the
log of changes included, when it is largest after a phase. 1,000,000,000 rows need 20 GB of memory
and about ten minutes on one core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np

from benchmarks.harness import Case, run
from weiml.hashing import mix64
from weiml.ps import FTRL, SparseTable, TableConfig

ROWS, QUICK_ROWS = 1_000_000_000, 20_000_000
BATCH = 1 << 20
GOAL_BYTES = 20.0
RULE = FTRL(alpha=0.1, beta=1.0, l1=0.0, l2=1.0)
KINDS = 16
"""Different gradients, and so different rows; a row's kind follows from its number."""


@numba.njit(cache=True, nogil=True)
def numbered(first: int, stop: int, step: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys and kinds of rows ``step·i mod rows`` for i = first … stop-1, all distinct.

    `step` has no factor in common with `rows`, and mix64 maps different numbers to different keys.
    """
    keys = np.empty(stop - first, np.uint64)
    kinds = np.empty(stop - first, np.int64)
    for i in range(first, stop):
        row = (i * step) % rows
        keys[i - first] = mix64(np.uint64(row) + np.uint64(1))
        kinds[i - first] = row % KINDS
    return keys, kinds


def resident() -> int:
    """Return the bytes of memory that this process has resident."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def gradients() -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of each kind, float32 (KINDS, 2), and the weights that they lead to."""
    grads = np.random.default_rng(0).normal(size=(KINDS, 2)).astype(np.float32)
    state = RULE.initial_state(np.zeros((KINDS, 1), np.float32))
    for turn in range(2):
        state = RULE.update(state, grads[:, turn : turn + 1])
    return grads, RULE.weights(state)[:, 0]


def coprime(rows: int) -> int:
    """Return a step that visits all of `rows` numbers, far from one after the other."""
    step = int(rows * 0.618) | 1
    while np.gcd(step, rows) != 1:
        step += 2
    return step


def cases(quick: bool, rows: int = 0) -> Iterator[Case]:
    """Fill one table."""
    rows = rows or (QUICK_ROWS if quick else ROWS)
    grads, expected = gradients()
    step = coprime(rows)
    table = SparseTable(TableConfig("t", optimizer=RULE, max_load=0.93))
    numbered(0, 8, 1, rows)
    before = resident()
    largest, seconds = 0, {}
    for turn, (phase, stride) in enumerate((("inserted", 1), ("updated", step))):
        begun = time.perf_counter()
        for first in range(0, rows, BATCH):
            keys, kinds = numbered(first, min(first + BATCH, rows), stride, rows)
            table.push_gradients(keys, grads[kinds, turn : turn + 1], 1 + turn)
        seconds[phase] = time.perf_counter() - begun
        largest = max(largest, resident() - before)
    begun = time.perf_counter()
    wrong = 0
    for first in range(0, rows, BATCH):
        keys, kinds = numbered(first, min(first + BATCH, rows), 1, rows)
        wrong += int((table.pull_weights(keys)[:, 0] != expected[kinds]).sum())
    seconds["pulled"] = time.perf_counter() - begun
    per_row = largest / rows
    rates = ", ".join(f"{phase} {rows / s / 1e6:.1f} M rows/s" for phase, s in seconds.items())
    quality = f"{per_row:.2f} bytes a row; {wrong} rows differ from two steps of the rule; {rates}"
    yield Case(
        case=f"{rows:,} distinct keys",
        value=rows / largest * 2**30,
        unit="rows/GiB resident",
        peer=f"{GOAL_BYTES:g} bytes a row",
        peer_value=2**30 / GOAL_BYTES,
        goal=f"≤ {GOAL_BYTES:g} bytes a row resident, no failure",
        holds=per_row <= GOAL_BYTES and wrong == 0 and len(table) == rows,
        quality=quality,
        regime="one thread, max_load 0.93, batches of 1 M keys in random order, memory cold",
        n=1,
    )


def main() -> None:
    """Run the benchmark."""
    run("capacity", cases, rows=0)


if __name__ == "__main__":
    main()
