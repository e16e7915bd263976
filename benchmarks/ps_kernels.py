"""FTRL updates and pulls of a sparse table in one thread, beside bare memory and beside numpy.

    python -m benchmarks.ps_kernels [--quick] [--rows 100000000]

The table is the `RowStore` of rows (z, n) in a `SparseTable`; its keys are found, its rows updated
or read block by block. Beside it stands what the whole table does, which notes the keys that change
and makes the arrays that it returns. Peers:

* a read-modify-write of as many 16-byte slots at positions that are known, so that there is nothing
  to find: the same memory on huge pages, the same batches, software prefetch as far ahead as is
  fastest, once with lines fetched into the second-level cache as the table does, once into the
  first for writing, as is usual;
* a hash table in numpy: the same sorted linear probing, all steps vectorised over chunks that stay
  in cache.

Keys of a batch are different, as clients send them.

Beside that, the longest single call while the table grew to its size.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.harness import Case, interleaved, run
from benchmarks.row_peers import (
    NumpyTable,
    Slots,
    keys_at,
    modify_first_level,
    modify_second_level,
)
from weiml.ps import SparseTable, TableConfig
from weiml.ps.optimizers import FTRL
from weiml.ps.optimizers.ftrl_single import apply_block, read_block

ROWS = 100_000_000
ROUNDS = 7
BATCH = 1 << 20
INSERTED = 1 << 14  # keys a call while the table grows
RULE = FTRL(alpha=0.1, beta=1.0, l1=0.5, l2=1.0)
PARAMETERS = np.array(RULE.scalars, np.float32)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The same batches for every contestant: numbers of rows, their keys, gradients."""

    positions: list[np.ndarray]
    keys: list[np.ndarray]
    grads: list[np.ndarray]
    weights: np.ndarray
    """Room for what is pulled."""
    at_once: int
    """Batches that a contestant takes in a turn."""
    name: str
    regime: str
    turn: dict[Callable[[int], None], int] = field(default_factory=dict)

    @classmethod
    def drawn(cls, draws: list[np.ndarray], name: str, regime: str, at_once: int = 1) -> Batches:
        """Return batches of the rows numbered by `draws`."""
        rng = np.random.default_rng(1)
        grads = [rng.standard_normal((draw.size, 1)).astype(np.float32) for draw in draws]
        weights = np.empty((max(draw.size for draw in draws), 1), np.float32)
        keys = [keys_at(draw) for draw in draws]
        return cls(
            positions=draws,
            keys=keys,
            grads=grads,
            weights=weights,
            at_once=at_once,
            name=name,
            regime=regime,
        )

    def turns(self, act: Callable[[int], None]) -> Callable[[], None]:
        """Return a function that acts on the next batches at each call."""

        def go() -> None:
            for _ in range(self.at_once):
                act(self.turn.get(act, 0))
                self.turn[act] = (self.turn.get(act, 0) + 1) % len(self.keys)

        return go


def uniform(rows: int, size: int) -> list[np.ndarray]:
    """Return batches of different numbers below `rows`, all equally likely."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(ROUNDS + 1):
        draw = np.unique(rng.integers(0, rows, 2 * size))
        draws.append(rng.permutation(draw)[:size])
    return draws


def zipf(rows: int, size: int) -> list[np.ndarray]:
    """Return batches of different numbers below `rows` after Zipf's law with exponent 1.1."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(ROUNDS + 1):
        # The inverse of the distribution function of k^-1.1, 1 <= k <= rows.
        most = 1 - (rows + 1.0) ** -0.1
        ranks = (1 - most * rng.random(4 * size)) ** -10.0
        draw = np.unique(np.minimum(ranks.astype(np.int64) - 1, rows - 1))
        draws.append(rng.permutation(draw)[:size])
    return draws


def filled(rows: int) -> tuple[SparseTable, np.ndarray]:
    """Return a table of `rows` rows, and the seconds of each call that inserted them."""
    table = SparseTable(TableConfig("table", optimizer=RULE))
    store = table.store
    store.find_or_insert(keys_at(np.arange(100)))  # compile
    store.clear()
    seconds = np.empty(-(-rows // INSERTED))
    for call in range(seconds.size):
        first = call * INSERTED
        keys = keys_at(np.arange(first, min(first + INSERTED, rows)))
        begin = time.perf_counter()
        store.find_or_insert(keys)
        seconds[call] = time.perf_counter() - begin
    return table, seconds


def compared(
    table: SparseTable,
    twin: SparseTable,
    slots: Slots,
    numpy_table: NumpyTable,
    batches: Batches,
    *,
    goal: bool,
) -> Iterator[Case]:
    """Yield the cases of updates and of pulls over some batches; the whole table acts in `twin`."""
    keys, positions, grads, weights = (
        batches.keys,
        batches.positions,
        batches.grads,
        batches.weights,
    )
    for kernel in (modify_second_level, modify_first_level):
        slots.tune(kernel, positions[0], grads[0])

    store, sequence = table.store, itertools.count(twin.changes.last + 1)

    def update(i: int) -> None:
        done = store.visit(keys[i], grads[i], apply_block(), PARAMETERS)
        assert done == keys[i].size, "a key is missing"

    def pull(i: int) -> None:
        done = store.visit(keys[i], weights[: keys[i].size], read_block(), PARAMETERS)
        assert done == keys[i].size, "a key is missing"

    ours = {"update": update, "pull": pull}
    whole: dict[str, Callable[[int], object]] = {
        "update": lambda i: twin.push_gradients(keys[i], grads[i], next(sequence)),
        "pull": lambda i: twin.pull_weights(keys[i]),
    }
    theirs: dict[str, Callable[[int], object]] = {
        "update": lambda i: numpy_table.update(keys[i], grads[i]),
        "pull": lambda i: numpy_table.weights(keys[i]),
    }
    for what in ("update", "pull"):
        contestants = {
            "weiml": batches.turns(ours[what]),
            "the whole SparseTable": batches.turns(functools.partial(call, whole[what])),
            **{
                f"read-modify-write at known positions, prefetched into {cache}": batches.turns(
                    functools.partial(modify, slots, kernel, batches)
                )
                for cache, kernel in (("L2", modify_second_level), ("L1", modify_first_level))
            },
            "numpy": batches.turns(functools.partial(call, theirs[what])),
        }
        seconds = interleaved(contestants, ROUNDS)
        pull(0)
        apart = np.abs(weights[: keys[0].size] - numpy_table.weights(keys[0])).max()
        keys_a_turn = statistics.mean(part.size for part in keys) * batches.at_once
        speed = {name: keys_a_turn / took / 1e6 for name, took in seconds.items()}
        mine = speed.pop("weiml")
        for peer, rate in speed.items():
            bar = 5.0 if peer == "numpy" else 0.7
            shown = not goal or peer == "the whole SparseTable"
            yield Case(
                case=f"FTRL {what}, {batches.name}",
                value=mine,
                unit="M keys/s",
                peer=peer,
                peer_value=rate,
                goal="none, shown for comparison" if shown else f"≥ {bar:g} × the peer",
                holds=shown or mine >= bar * rate,
                quality=f"weights within {apart:.1g} of numpy's",
                regime=batches.regime,
                n=ROUNDS,
            )


def modify(slots: Slots, kernel: Callable[..., None], batches: Batches, i: int) -> None:
    slots.modify(kernel, batches.positions[i], batches.grads[i])


def call(function: Callable[[int], object], i: int) -> None:
    function(i)


def pause_case(table: SparseTable, seconds: np.ndarray) -> Case:
    store = table.store
    longest, high = float(seconds.max()), float(np.percentile(seconds, 99.9))
    return Case(
        case="longest call while growing",
        value=1 / longest,
        unit="calls/s",
        peer="a pause of 100 ms",
        peer_value=10.0,
        goal="no pause over 100 ms",
        holds=longest < 0.1,
        quality=f"longest {1e3 * longest:.1f} ms, 99.9th percentile {1e3 * high:.1f} ms, median "
        f"{1e3 * float(np.median(seconds)):.2f} ms; {len(store) / seconds.sum() / 1e6:.1f} M "
        f"insertions/s; {store.nbytes / len(store):.1f} bytes a row",
        regime=f"{len(store):,} keys into an empty table, {INSERTED:,} a call",
        n=seconds.size,
    )


def cases(quick: bool, rows: int) -> Iterator[Case]:
    rows = min(rows, 4_000_000) if quick else rows
    size = BATCH // 4 if quick else min(BATCH, rows // 4)
    table, seconds = filled(rows)
    yield pause_case(table, seconds)
    twin, _ = filled(rows)
    slots, numpy_table = Slots(rows), NumpyTable(keys_at(np.arange(rows)), RULE)
    about = f"{rows:,} rows, batches of {size:,} different keys, one thread, warm"
    even = Batches.drawn(uniform(rows, size), "uniform keys", f"uniform keys, {about}")
    yield from compared(table, twin, slots, numpy_table, even, goal=True)
    skewed = Batches.drawn(zipf(rows, size), "Zipf keys", f"Zipf 1.1 keys, {about}")
    yield from compared(table, twin, slots, numpy_table, skewed, goal=False)
    del table, twin, slots, numpy_table, even, skewed
    few = 100_000
    small, small_twin = filled(few)[0], filled(few)[0]
    within = Batches.drawn(
        uniform(few, few // 4),
        "uniform keys in cache",
        f"uniform keys, {few:,} rows that stay in cache, {few // 4:,} different keys a batch",
        at_once=16,
    )
    numpy_small = NumpyTable(keys_at(np.arange(few)), RULE)
    yield from compared(small, small_twin, Slots(few), numpy_small, within, goal=False)


def main() -> None:
    """Run the benchmark."""
    run("ps_kernels", cases, rows=ROWS)


if __name__ == "__main__":
    main()
