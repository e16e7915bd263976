"""What a looser clock is worth when one worker of four is slow: BSP, SSP(3), ASP to equal loss.

    python -m benchmarks.ssp [--quick]

Stragglers that come and go are what SSP was made for (Ho et al., "More effective distributed ML
via a stale synchronous parallel parameter server", NIPS 2013): with a slack, a worker that is slow
for a few steps holds nobody up. One that is slow for good does under any bound; that case is here
too. A step is made to take a given time, mostly asleep, so that cores are no bottleneck; a slowed
one takes three times as long. Every scheme sees the same examples and the same slow steps.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray

from benchmarks.harness import Case, run
from benchmarks.zipf import STEEP, Clicks
from weiml.cluster import start_ray
from weiml.data import ParquetKeys
from weiml.features import Batch
from weiml.group import WorkerContext, WorkerGroup
from weiml.models import (
    Columns,
    LogisticRegression,
    LogisticRegressionConfig,
    Prepared,
    Rows,
    StepResult,
    log_loss,
)
from weiml.models.kernels import sigmoid
from weiml.ps import FTRL, ParameterServer, RayParameterServer, unique_keys
from weiml.train import worker as work

WORKERS = 4
BATCH_SIZE = 512
STEP_S = 0.03
FACTOR = 3
BURST = 2.0
WARM_STEPS = 3
SCHEMES: dict[str, int | None] = {"BSP": 0, "SSP(3)": 3, "ASP": None}
MODEL = LogisticRegressionConfig(optimizer=FTRL(alpha=0.05, beta=1.0, l1=0.0, l2=0.0))
GOAL = 1.3


@dataclass(frozen=True)
class Run:
    """One pass of one scheme."""

    curve: list[tuple[float, float]]
    """(seconds, held-out loss)."""
    seconds: float
    idle: list[float]
    """Of each worker: the share of its time that it waited for rows."""

    def reached(self, loss: float) -> float:
        """Return from when on the held-out loss was not above `loss`, between two looks."""
        times, losses = np.array(self.curve).T
        above = np.flatnonzero(losses > loss)
        if not above.size:
            return float(times[0])
        last = above[-1]
        if last + 1 == times.size:
            return float("inf")
        return float(np.interp(loss, losses[[last + 1, last]], times[[last + 1, last]]))

    def highest_after(self, share: float) -> float:
        """Return the highest held-out loss after a share of the time."""
        return max(loss for seconds, loss in self.curve if seconds >= share * self.seconds)


def in_turns(steps: int, seed: int) -> np.ndarray:
    """Return bool (steps, WORKERS): one worker is slow, another one after BURST steps or so."""
    rng = np.random.default_rng(seed)
    slow = np.zeros((steps, WORKERS), np.bool_)
    who = 0
    for step in range(steps):
        if rng.random() < 1 / BURST:
            who = int(rng.choice([w for w in range(WORKERS) if w != who]))
        slow[step, who] = True
    return slow


def for_good(steps: int, seed: int) -> np.ndarray:
    """Return bool (steps, WORKERS): the first worker is slow."""
    slow = np.zeros((steps, WORKERS), np.bool_)
    slow[:, 0] = True
    return slow


def pace(context: WorkerContext, slow: np.ndarray) -> None:
    """Make the worker's steps take STEP_S from now on, or FACTOR times as long."""
    model = context.memory["worker"].model
    train_rows = model.train_rows
    steps = iter(slow[:, context.rank].tolist())

    def paced(prepared: Prepared, rows: np.ndarray) -> StepResult:
        until = time.perf_counter() + STEP_S * (FACTOR if next(steps) else 1)
        result: StepResult = train_rows(prepared, rows)
        time.sleep(max(until - time.perf_counter(), 0.0))
        return result

    model.train_rows = paced


class HeldOut:
    """Examples that nobody trains on."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._model = LogisticRegression(MODEL, Columns.of(batch))
        (self._table,) = self._model.tables()
        self._keys, self._positions = unique_keys(self._model.keys(batch)[self._table.name])

    def create_table(self, server: ParameterServer) -> None:
        """Create the model's table."""
        server.create_table(self._table)

    def watch(
        self, server: ParameterServer, training: threading.Thread
    ) -> list[tuple[float, float]]:
        """Look at the loss, from outside the clock, while a thread trains."""
        client = server.client()
        begin = time.perf_counter()
        curve = []
        alive = True
        while alive:
            alive = training.is_alive()
            weights = np.asarray(client.wait(client.pull(self._table.name, self._keys)))
            seconds = time.perf_counter() - begin
            rows = {self._table.name: Rows(weights, self._positions)}
            scores = np.asarray(sigmoid(self._model.logits(self._batch, rows)))
            curve.append((seconds, log_loss(self._batch.labels[:, 0], scores)))
            training.join(0.1)
        return curve


def train(staleness: int | None, parquet: Path, held_out: HeldOut, slow: np.ndarray) -> Run:
    """Train one pass over all workers' parts; their first steps only load the code."""
    source = ParquetKeys(parquet)
    results: list[work.ChunkResult] = []
    with (
        RayParameterServer.create(
            num_shards=1, num_workers=WORKERS, staleness=staleness, name=f"ssp-{time.time_ns()}"
        ) as server,
        WorkerGroup.create(WORKERS, backend="none", cpus_per_worker=0) as group,
    ):
        held_out.create_table(server)
        spec = work.WorkerSpec(
            model_config=MODEL,
            columns=Columns(slots=source.slots, dense_names=()),
            seed=0,
            batch_size=BATCH_SIZE,
            source=source,
            server=server,
            shuffled=False,
        )
        group.execute(work.start_worker, spec)
        group.execute(work.start_epoch, 0)
        group.run(work.run_steps, WARM_STEPS)
        group.execute(pace, slow)

        def go_on() -> None:
            results.extend(group.run(work.run_steps, len(slow)))

        training = threading.Thread(target=go_on)
        training.start()
        curve = held_out.watch(server, training)
        group.execute(work.finish)
    if not results:
        raise SystemExit("error: a worker failed, see above")
    seconds = curve[-1][0]
    return Run(curve, seconds, [result.seconds["pull"] / seconds for result in results])


def compare(
    name: str, about: str, plan: Any, steps: int, rounds: int, parquet: Path, held_out: HeldOut
) -> Iterator[Case]:
    """Run the schemes in turns; the loss to reach is what BSP stays under in its last fifth."""
    runs: dict[str, list[Run]] = {scheme: [] for scheme in SCHEMES}
    for turn in range(rounds):
        slow = plan(steps, turn)
        order = list(SCHEMES)
        for scheme in reversed(order) if turn % 2 else order:
            runs[scheme].append(train(SCHEMES[scheme], parquet, held_out, slow))
    losses = [one.highest_after(0.8) for one in runs["BSP"]]
    times = {
        scheme: median(r.reached(loss) for r, loss in zip(these, losses, strict=True))
        for scheme, these in runs.items()
    }
    idle = "; ".join(
        f"{scheme}: {_shares([median(s) for s in zip(*(r.idle for r in these), strict=True)])}, "
        f"{times[scheme]:.2f} s, at the end {median(r.curve[-1][1] for r in these):.4f} after "
        f"{median(r.seconds for r in these):.2f} s"
        for scheme, these in runs.items()
    )
    for scheme in ("SSP(3)", "ASP"):
        bound = name == "in turns" and scheme == "SSP(3)"
        ratio = times["BSP"] / times[scheme]
        yield Case(
            case=f"slow {name}, {scheme}",
            value=1 / times[scheme],
            unit="runs/s to equal loss",
            peer="BSP",
            peer_value=1 / times["BSP"],
            goal=f"≥ {GOAL:g} × BSP" if bound else "reached",
            holds=ratio >= GOAL if bound else bool(np.isfinite(times[scheme])),
            quality=f"held-out log-loss {median(losses):.4f}; share of its time that each worker "
            f"waited for rows, time to that loss: {idle}",
            regime=f"{about}; {WORKERS} workers, 1 shard on Ray, batches of {BATCH_SIZE}, steps of "
            f"{STEP_S * 1000:g} ms or {FACTOR} times that, {steps} steps each, the same for all",
            n=rounds,
        )


def _shares(idle: list[float]) -> str:
    return "idle " + "/".join(f"{share:.0%}" for share in idle)


def cases(quick: bool) -> Iterator[Case]:
    """Stragglers in turns, and one for good."""
    steps, rounds = (40, 1) if quick else (120, 5)
    examples = WORKERS * (steps + WARM_STEPS) * BATCH_SIZE
    start_ray(num_cpus=2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            clicks = Clicks.write(Path(folder) / "train", examples, STEEP)
            other = Clicks.write(Path(folder) / "held_out", 20_000, STEEP, seed=1)
            held_out = HeldOut(next(ParquetKeys(other.parquet).iter_batches(other.examples)))
            train(0, clicks.parquet, held_out, in_turns(5, 0))  # compiles what there is to compile
            about = (
                f"at any step one worker is slowed {FACTOR} times, another one after {BURST:g} "
                f"steps on average"
            )
            yield from compare("in turns", about, in_turns, steps, rounds, clicks.parquet, held_out)
            about = f"one worker is slowed {FACTOR} times from the beginning to the end"
            if not quick:
                yield from compare("for good", about, for_good, steps, 3, clicks.parquet, held_out)
    finally:
        ray.shutdown()


def main() -> None:
    """Run the benchmark."""
    run("ssp", cases)


if __name__ == "__main__":
    main()
