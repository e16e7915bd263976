"""Logistic regression by FTRL through Ray's parameter server, beside Vowpal Wabbit in one process.

    python -m benchmarks.lr_ps_ray [--quick]

Workers and shards are processes. Each worker pulls the state of a batch's distinct keys, trains
serially on its copies and pushes the differences, while the next batch is read and its rows are on
their way. Rates are those after each worker's first steps, which load code and grow the table; VW
starts from nothing in a process that runs, and its rate is of the whole pass (ours of the whole
pass is told beside). Losses are progressive and count all examples. The sizes of ticks and of the
first batch were chosen on these examples.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import ray

from benchmarks.harness import Case, run
from benchmarks.vowpal import VowpalWabbit
from benchmarks.zipf import STEEP, Clicks
from weiml.cluster import start_ray
from weiml.config import from_mapping
from weiml.data import ParquetKeys
from weiml.train import StreamResult, StreamTrainer, TrainConfig, make_server

BITS = 24
FIRST_BATCH = 64
"""Examples of a worker's first step; they double until a step takes its part of the tick."""
WARM_STEPS = 12
SHAPES = (1, 2)
"""Workers, and as many shards."""


class Clock(NamedTuple):
    """A staleness, and how many examples all workers take together in a tick."""

    staleness: int | str
    tick_size: int


CLOCKS = {
    # Workers that do not wait read one another a step or two late, so their steps are shorter.
    "ASP": Clock("asp", 32_768),
    "BSP": Clock(0, 65_536),
}
GOAL = 2.0
TOLERANCE = 0.001


class Ours(NamedTuple):
    """One pass."""

    rate: float
    """Examples/s after the first steps."""
    whole_rate: float
    """Examples/s, the first steps included."""
    loss: float
    stages: dict[str, float]
    """Seconds of each stage after the first steps, mean of the workers."""
    seconds: float
    """After the first steps."""


def ours(parquet: Path, workers: int, clock: Clock) -> Ours:
    """Train on `workers` workers and as many shards."""
    settings = {
        "model": {"name": "lr", "optimizer": {"alpha": 0.1, "beta": 1.0, "l1": 0.0, "l2": 0.0}},
        "batch_size": clock.tick_size // workers,
        "first_batch_size": FIRST_BATCH,
        "wire": {"key_cache_mib": 64.0},  # a push has the keys of its pull
        "transport": "ray",
        "num_shards": workers,
        "num_workers": workers,
        "staleness": clock.staleness,
        "cpus_per_worker": 0,
        "progress_steps": WARM_STEPS,
    }
    config = from_mapping(TrainConfig, settings)
    told: list[StreamResult] = []
    with make_server(config) as server:
        whole = StreamTrainer(config, server).fit(ParquetKeys(parquet), progress=told.append)
    warm = told[0]
    seconds = whole.seconds - warm.seconds
    stages = {
        name: (took - warm.stages.get(name, 0)) / workers for name, took in whole.stages.items()
    }
    rate = (whole.examples - warm.examples) / seconds
    return Ours(rate, whole.examples / whole.seconds, whole.loss, stages, seconds)


def cases(quick: bool) -> Iterator[Case]:
    """Compare on a Ray of the benchmark's own, contestants in turns."""
    examples, rounds = (200_000, 1) if quick else (1_000_000, 5)
    start_ray(num_cpus=2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            clicks = Clicks.write(Path(folder), examples, STEEP, bits=BITS)
            assert clicks.text is not None
            theirs = VowpalWabbit.contestants(clicks.text, BITS)
            for peer in theirs:
                peer()  # makes the cache
            for workers in SHAPES if not quick else SHAPES[:1]:
                yield from compare(clicks, theirs, workers, rounds)
    finally:
        ray.shutdown()


def compare(
    clicks: Clicks, theirs: list[VowpalWabbit], workers: int, rounds: int
) -> Iterator[Case]:
    """Take turns: each clock, and each of VW's options; VW has its faster rate and better loss."""
    passes: dict[str, list[Ours]] = {clock: [] for clock in CLOCKS}
    seconds: dict[str, list[float]] = {peer.name: [] for peer in theirs}
    for turn in range(rounds):
        for clock in list(CLOCKS)[:: -1 if turn % 2 else 1]:
            passes[clock].append(ours(clicks.parquet, workers, CLOCKS[clock]))
        for peer in theirs:
            begin = time.perf_counter()
            peer()
            seconds[peer.name].append(time.perf_counter() - begin)
    rates = {name: clicks.examples / median(took) for name, took in seconds.items()}
    fastest = max(rates, key=lambda name: rates[name])
    best = min(peer.loss for peer in theirs)
    others = "; ".join(
        f"{peer.name}: {peer.loss:.4f}, {rates[peer.name]:,.0f}/s" for peer in theirs
    )
    for clock, these in passes.items():
        rate = median(one.rate for one in these)
        loss = median(one.loss for one in these)
        whole = median(one.whole_rate for one in these)
        typical = min(these, key=lambda one: abs(one.rate - rate))
        stages = ", ".join(f"{name} {took:.2f} s" for name, took in typical.stages.items())
        yield Case(
            case=f"{workers} shard(s) and {workers} worker(s), {clock}",
            value=rate,
            unit="examples/s",
            peer=fastest,
            peer_value=rates[fastest],
            goal=f"≥ {GOAL:g} × VW, progressive log-loss ≤ VW's best + {TOLERANCE:g}",
            holds=rate >= GOAL * rates[fastest] and loss <= best + TOLERANCE,
            quality=f"progressive log-loss {loss:.4f} (true model {clicks.noise:.4f}); {others}; "
            f"whole pass {whole:,.0f}/s; each worker's time, {typical.seconds:.2f} s: {stages} "
            f"(prepare, which finds distinct keys, beside the others, in the thread that reads)",
            regime=f"{clicks.examples:,} examples x 39 slots, {STEEP}, {clicks.keys:,} distinct "
            f"keys; Parquet in page cache, table empty at the start, batches of "
            f"{CLOCKS[clock].tick_size // workers:,} to which the first ones grow from "
            f"{FIRST_BATCH}, key lists sent once; rate after the first {WARM_STEPS} steps of each "
            f"worker",
            n=rounds,
        )


def main() -> None:
    """Run the benchmark."""
    run("lr_ps_ray", cases)


if __name__ == "__main__":
    main()
