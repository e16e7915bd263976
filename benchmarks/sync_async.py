"""Synchronous beside asynchronous updates: loss, pace, staleness, and steps that are there once.

    python -m benchmarks.sync_async [--quick]

Distributed TensorFlow's log of (local step, global step) once showed steps that two workers took
and steps that nobody took. Here the same log is kept under BSP, SSP and ASP, with workers slow
in turns and with one killed, and checked: global steps 1 … N, each once. Then what N
synchronous workers are equal to: one worker with an N-fold batch, for which rules and how closely.
The full run writes docs/reports/DATE-sync_async_runs.json and draws docs/sync-async-*.png from it.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray

from benchmarks.harness import REPORTS, Case, run
from benchmarks.ssp import in_turns
from benchmarks.zipf import STEEP, Clicks
from weiml.cluster import start_ray
from weiml.config import from_mapping
from weiml.data import BatchDataset, ParquetKeys, write_batches
from weiml.group import WorkerContext, WorkerGroup
from weiml.train import Callback, Progress, StepLog, TrainConfig, Trainer, TrainResult

Scheme = tuple[Any, str]
"""(staleness, where the dense part is)."""

SCHEMES: dict[str, Scheme] = {
    "BSP, dense in the group": (0, "group"),
    "BSP, dense on servers": (0, "servers"),
    "SSP(3), dense on servers": (3, "servers"),
    "ASP, dense on servers": ("asp", "servers"),
    "ASP rows, dense in the group": ("asp", "group"),
}
MODEL = {"name": "wide_deep", "hidden": [32, 16], "embedding_dim": 4}
SGD_DENSE = {"hidden": [16], "embedding_dim": 4, "optimizer": "sgd", "lr": 0.1}
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"name": "sgd", "lr": 0.01},
    "FTRL": {"name": "ftrl", "alpha": 0.05},
    "Adagrad": {"name": "adagrad", "lr": 0.05},
    "Adam": {"name": "adam", "lr": 0.01},
}
BATCH_SIZE = 256
STEP_S = 0.03
SLOWER = 3
REPORTED = 12  # times in a run


@dataclass
class Sets:
    """Data on disk."""

    train: BatchDataset
    held_out: BatchDataset

    @classmethod
    def write(cls, folder: Path, examples: int) -> Sets:
        """Generate clicks."""
        sets = []
        for seed, count in enumerate((examples, 10_000)):
            clicks = Clicks.write(folder / f"clicks-{seed}", count, STEEP, seed=seed)
            batches = ParquetKeys(clicks.parquet).iter_batches(10_000)
            sets.append(write_batches(batches, folder / f"set-{seed}"))
        return cls(*sets)


@dataclass
class Watch(Callback):
    """Notes when each report came, by this process's clock from the first step on."""

    seconds: list[float] = field(default_factory=list)
    begun: float = 0.0

    def on_start(self, steps: int) -> None:
        """See `Callback.on_start`."""
        self.begun = time.perf_counter()

    def on_progress(self, at: Progress) -> None:
        """See `Callback.on_progress`."""
        self.seconds.append(time.perf_counter() - self.begun)


@contextmanager
def groups_seen() -> Iterator[list[WorkerGroup]]:
    """Give the worker groups that are started inside, newest last."""
    seen: list[WorkerGroup] = []
    start = WorkerGroup.start

    def remembered(*arguments: Any, **settings: Any) -> WorkerGroup:
        seen.append(start(*arguments, **settings))
        return seen[-1]

    WorkerGroup.start = remembered  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        WorkerGroup.start = start  # type: ignore[method-assign]


def pace(context: WorkerContext, slow: np.ndarray) -> None:
    """Make the worker's steps take STEP_S, mostly asleep, or SLOWER times as long."""
    model = context.memory["worker"].model
    compute = model.compute
    steps = iter(slow[:, context.rank].tolist())

    def paced(*arguments: Any) -> Any:
        until = time.perf_counter() + STEP_S * (SLOWER if next(steps) else 1)
        result = compute(*arguments)
        time.sleep(max(until - time.perf_counter(), 0.0))
        return result

    model.compute = paced


@dataclass
class Pace(Callback):
    """Slows the workers of a run that begins."""

    groups: list[WorkerGroup]
    slow: np.ndarray

    def on_start(self, steps: int) -> None:
        """See `Callback.on_start`."""
        self.groups[-1].execute(pace, self.slow)


@dataclass
class Kill(Callback):
    """Kills worker 1 once, behind a report at or behind a step."""

    groups: list[WorkerGroup]
    at: int
    restarts: int = 0

    def on_progress(self, at: Progress) -> None:
        """See `Callback.on_progress`."""
        if not self.restarts and at.global_step >= self.at:
            os.kill(self.groups[-1].execute(pid)[1], signal.SIGKILL)

    def on_restart(self, error: Exception) -> None:
        """See `Callback.on_restart`."""
        self.restarts += 1


def pid(context: WorkerContext) -> int:
    """Return the worker's process."""
    return os.getpid()


def settings(scheme: Scheme, workers: int, **values: Any) -> TrainConfig:
    """Return the configuration of a run on Ray."""
    staleness, dense = scheme
    fields = {"model": MODEL, "batch_size": BATCH_SIZE, "epochs": 1, "threads": 1, "seed": 1}
    fields |= {"transport": "ray", "cpus_per_worker": 2 / max(workers, 2) - 0.1}
    fields |= {"staleness": staleness, "dense": dense, "num_workers": workers}
    return from_mapping(TrainConfig, {**fields, **values})


def spread(log: StepLog) -> int:
    """Return by how many local steps workers were apart at most."""
    numbers = log.by_worker()
    owner = np.concatenate([np.full(len(own), rank) for rank, own in enumerate(numbers)])
    owner = owner[np.argsort(np.concatenate(numbers), kind="stable")]
    local = np.stack([np.cumsum(owner == rank) for rank in range(len(numbers))])
    return int((local.max(0) - local.min(0)).max())


def staleness_seen(log: StepLog) -> list[int]:
    """Return, for each step, how many steps of others may lie between its pull and its push.

    A worker asks for the rows of a step right behind its tick of the step before last.
    """
    return sorted(
        int(n) for own in log.by_worker() for n in (own[2:] - own[:-2] - 2).tolist() if n >= 0
    )


def told(result: TrainResult, log: StepLog, watch: Watch) -> dict[str, Any]:
    """Return what a run was like, fit for JSON."""
    stale = [] if result.config.staleness == 0 else staleness_seen(log)
    print(f"{result.config.staleness} {watch.seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    return {
        "workers": result.config.num_workers,
        "examples": [point["examples"] for point in result.curve],
        "seconds": watch.seconds,
        "loss": [point["loss"] for point in result.curve],
        "held_out": result.history[-1].get("validation_log_loss"),
        "steps_per_s": result.global_step / watch.seconds[-1],
        "global_steps": result.global_step,
        "faults": log.faults(),
        "forgotten": log.forgotten,
        "spread": spread(log),
        "stale_median": stale[len(stale) // 2] if stale else 0,
        "stale_most": stale[-1] if stale else 0,
        "load": os.getloadavg()[0],
    }


def converge(sets: Sets, name: str, workers: int) -> dict[str, Any]:
    """Train one epoch and follow the loss, of examples not yet trained on."""
    steps = sets.train.num_examples // workers // BATCH_SIZE
    config = settings(SCHEMES[name], workers, progress_steps=max(steps // REPORTED, 1))
    log, watch = StepLog(), Watch()
    result = Trainer(config).fit(sets.train, sets.held_out, callbacks=[log, watch])
    return {"scheme": name, **told(result, log, watch)}


def slowed(sets: Sets, name: str, steps: int, turn: int) -> dict[str, Any]:
    """Train four workers, at each step one of them slow, without a stop for reports."""
    log, watch = StepLog(), Watch()
    size = max(sets.train.num_examples // 4 // steps, 1)
    config = settings(SCHEMES[name], 4, progress_steps=10**6, batch_size=size)
    with groups_seen() as groups:
        paced = Pace(groups, in_turns(steps + 2, turn))
        result = Trainer(config).fit(sets.train, callbacks=[log, paced, watch])
    numbers = [own.tolist() for own in log.by_worker()]
    return {"scheme": name, "log": numbers, **told(result, log, watch)}


def killed(sets: Sets, name: str) -> dict[str, Any]:
    """Train two workers of which one is killed; the run goes on from its checkpoint."""
    log, watch = StepLog(), Watch()
    size = sets.train.num_examples // 80
    config = settings(
        SCHEMES[name], 2, batch_size=size, progress_steps=5, checkpoint_steps=10, timeout_s=60.0
    )
    with groups_seen() as groups:
        kill = Kill(groups, at=2 * 15)
        result = Trainer(config).fit(sets.train, callbacks=[log, kill, watch])
    return {"scheme": name, "restarts": kill.restarts, **told(result, log, watch)}


def equivalence(sets: Sets, batch_size: int = 1024) -> Iterator[dict[str, Any]]:
    """Train N workers beside one with an N-fold batch, by rule of the rows, in process."""
    batch = sets.held_out.read()
    variants = [(rule, "steps", "group") for rule in RULES]
    variants += [("SGD", "steps", "servers"), ("SGD", "ranges", "group")]
    for rule, split, dense in variants:
        model = {"name": "dnn", **SGD_DENSE, "multiplicity": "sum", "embedding": RULES[rule]}
        scores, losses = {}, {}
        for workers in (1, 2, 4):
            config = from_mapping(
                TrainConfig,
                {
                    "model": model,
                    "num_workers": workers,
                    "batch_size": batch_size // workers,
                    "split": split,
                    "dense": dense,
                    "epochs": 1,
                    "threads": 1,
                    "explosion": 0.0,
                },
            )
            result = Trainer(config).fit(sets.train, sets.held_out)
            scores[workers] = result.predictor().score(batch)
            losses[workers] = result.history[-1]["validation_log_loss"]
        for workers in (2, 4):
            yield {
                "rule": rule,
                "split": split,
                "dense": dense,
                "workers": workers,
                "difference": float(np.abs(scores[workers] - scores[1]).max()),
                "loss": losses[workers],
                "loss_of_one": losses[1],
                "steps": result.steps,
            }


def measure(quick: bool, rounds: int) -> dict[str, Any]:
    """Run everything; the slowed workers `rounds` times."""
    examples, steps = (8_192, 20) if quick else (40_960, 50)
    rounds = 1 if quick else rounds
    found: dict[str, Any] = {"date": datetime.date.today().isoformat()}
    with tempfile.TemporaryDirectory() as folder:
        sets = Sets.write(Path(folder), examples)
        found["equivalence"] = list(equivalence(sets))
        start_ray(num_cpus=2)
        try:
            converge(sets, "ASP, dense on servers", 2)  # compiles what there is to compile
            names = list(SCHEMES)[1:4]
            found["slowed"] = [
                slowed(sets, name, steps, turn)
                for turn in range(rounds)
                for name in (names[::-1] if turn % 2 else names)
            ]
            found["killed"] = [killed(sets, name) for name in (names[-1:] if quick else names[::2])]
            plan = [(name, 4) for name in SCHEMES]
            if not quick:
                plan += [(name, workers) for workers in (2, 1) for name in list(SCHEMES)[::3]]
            found["runs"] = [converge(sets, *one) for one in plan]
        finally:
            ray.shutdown()
    return found


def cases(quick: bool, rounds: int) -> Iterator[Case]:
    """Exactness of the log, pace with slow workers, equivalence."""
    found = measure(quick, rounds)
    if not quick:
        path = REPORTS / f"{found['date']}-sync_async_runs.json"
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")
        from benchmarks.sync_async_plots import draw

        draw(path, REPORTS.parent)
    logs = found["runs"] + found["slowed"] + found["killed"]
    wrong = [one for one in logs if one["faults"]]
    steps = sum(one["global_steps"] for one in logs)
    yield Case(
        case="global steps that are there once",
        value=float(steps - sum(len(one["faults"]) for one in wrong)),
        unit="steps",
        peer="all",
        peer_value=float(steps),
        goal="all, none twice",
        holds=not wrong,
        quality=f"{sum(one['forgotten'] for one in found['killed'])} steps taken again behind "
        "checkpoints after kills",
        regime="BSP, SSP(3), ASP on Ray; workers slow in turns; one worker killed",
        n=len(logs),
    )
    for scheme in list(SCHEMES)[2:4]:
        rates = {
            name: median(o["steps_per_s"] for o in found["slowed"] if o["scheme"] == name)
            for name in (scheme, "BSP, dense on servers")
        }
        one = next(o for o in found["slowed"] if o["scheme"] == scheme)
        yield Case(
            case=f"pace with workers slow in turns, {scheme}",
            value=rates[scheme],
            unit="steps/s",
            peer="BSP, dense on servers",
            peer_value=rates["BSP, dense on servers"],
            goal="faster",
            holds=rates[scheme] > rates["BSP, dense on servers"],
            quality=f"workers at most {one['spread']} steps apart, "
            f"{one['stale_median']} steps of others between pull and push (median)",
            regime=f"4 workers on Ray, steps of {STEP_S * 1e3:g} ms or {SLOWER} times that",
            n=len(found["slowed"]) // 3,
        )
    for one in found["equivalence"]:
        if one["rule"] == "SGD" and one["dense"] == "group":
            same = one["split"] == "steps"
            yield Case(
                case=f"{one['workers']} synchronous workers of SGD, split {one['split']!r}",
                value=one["loss_of_one"] / one["loss"],
                unit="held-out log-loss of one with the large batch, over theirs",
                peer="equal",
                peer_value=1.0,
                goal="scores within 1e-5" if same else "another run",
                holds=(one["difference"] < 1e-5) == same,
                quality=f"scores differ by {one['difference']:.2g} at most",
                regime=f"{one['steps']} steps of 1,024 examples together, in process",
                n=1,
            )


def main() -> None:
    """Run the benchmark."""
    run("sync_async", cases, rounds=3)


if __name__ == "__main__":
    main()
