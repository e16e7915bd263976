"""Shards' processes killed with SIGKILL at random moments under full load: what is lost, who waits.

    python -m benchmarks.failover [--quick] [--kills 20] [--seed 0]

Workers push and pull without pause while one shard's process after the other is killed; the next
one when the group is whole again, after a pause of random length. With replicas = 2 nothing that
was acknowledged may be missing and nothing may have acted twice: under BSP the tables are those of
as many steps of each worker one after the other in one process, bit by bit, as they are in a run
that nobody disturbs; under ASP the pushes count themselves. With replicas = 1 the loss is what came
since the last checkpoint, and is counted too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
import ray

from benchmarks.harness import Case, run
from benchmarks.kills import (
    BATCH_KEYS,
    BATCHES,
    LONGEST_PAUSE_S,
    OUTSTANDING,
    SHARDS,
    TABLE_KEYS,
    VECTOR,
    WORKERS,
    Outcome,
    counted,
    counting,
    is_exact,
    trained,
)
from weiml.cluster import start_ray
from weiml.ps import Partition

STALL_GOAL_S = 3.0
CHECKPOINT_S = 1.0
STEPS = 300
"""Of each worker where nobody is killed."""


def regime(load: str, kills: int) -> str:
    """Say what the numbers hold for."""
    return (
        f"{load}; {SHARDS} shards, {WORKERS} workers without pause, processes on two cores; "
        f"{kills} SIGKILLs, each up to {LONGEST_PAUSE_S:g} s after the group was whole again; "
        f"rates without each worker's first tenth"
    )


TRAINING = (
    f"FTRL by differences of state, {BATCH_KEYS:,} of {TABLE_KEYS:,} uniform keys and a vector of "
    f"{VECTOR:,} a step, rows in the caches"
)
COUNTING = f"SGD, pushes of {BATCH_KEYS:,} keys, {OUTSTANDING} of each worker under way"


def bsp(kills: int, seed: int) -> Iterator[Case]:
    """Kill under BSP, and compare with the same steps undisturbed."""
    ours = trained(2, kills=kills, seed=seed)
    calm = trained(2, steps=[STEPS] * WORKERS)
    equal = is_exact(ours) and is_exact(calm)
    failovers, lost = ours.status["failovers"], ours.total("lost_writes")
    yield Case(
        case=f"BSP, replicas = 2, {kills} kills",
        value=ours.rate,
        unit="steps/s",
        peer="undisturbed",
        peer_value=calm.rate,
        goal=f"content bit-equal to the same steps undisturbed, longest stall < {STALL_GOAL_S:g} s",
        holds=equal and failovers == kills and lost == 0 and ours.stall_s() < STALL_GOAL_S,
        quality=f"{sum(a.size for a in ours.content):,} numbers "
        f"{'bit-equal' if equal else 'DIFFER'} after {[w.steps for w in ours.workers]} steps; "
        f"{failovers} fail-overs, {lost} lost writes; {ours.told()}; undisturbed: longest stall "
        f"{calm.stall_s():.2f} s",
        regime=regime(TRAINING, kills),
        n=1,
    )


def asp(kills: int, seed: int) -> Iterator[Case]:
    """Kill under ASP, and count the pushes."""
    ours = counting(2, kills=kills, seed=seed)
    calm = counting(2, steps=[STEPS] * WORKERS)
    missing, twice = lacking(ours)
    acknowledged = sum(worked.steps for worked in ours.workers)
    failovers, lost = ours.status["failovers"], ours.total("lost_writes")
    exact = missing == twice == lost == 0
    yield Case(
        case=f"ASP, replicas = 2, {kills} kills",
        value=ours.rate,
        unit="pushes/s",
        peer="undisturbed",
        peer_value=calm.rate,
        goal=f"every acknowledged push there once, longest stall < {STALL_GOAL_S:g} s",
        holds=exact and failovers == kills and ours.stall_s() < STALL_GOAL_S,
        quality=f"of {acknowledged:,} acknowledged pushes {missing} missing on a shard, {twice} "
        f"there twice; {failovers} fail-overs, {lost} lost writes; {ours.told()}",
        regime=regime(COUNTING, kills),
        n=1,
    )


def lacking(ours: Outcome) -> tuple[int, int]:
    """Return how many parts of pushes, one a shard, are missing and how many are too many."""
    missing = twice = 0
    for number, worked in enumerate(ours.workers):
        for turn in range(BATCHES):
            pushes = len(range(turn, worked.steps, BATCHES))
            shards = Partition(SHARDS).shards_of(counted(number, turn))
            values = ours.content[number * BATCHES + turn]
            for shard in range(SHARDS):  # all keys of a part lack the same pushes
                lack = {int(n) for n in pushes + np.unique(values[shards == shard])}
                missing += sum(n for n in lack if n > 0)
                twice -= sum(n for n in lack if n < 0)
    return missing, twice


def price(rounds: int) -> Iterator[Case]:
    """Compare undisturbed training with and without stand-bys, in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    exact = True
    for turn in range(rounds):
        for replicas in (1, 2) if turn % 2 else (2, 1):
            calm = trained(replicas, steps=[STEPS] * WORKERS)
            rates[replicas].append(calm.rate)
            exact = exact and is_exact(calm)
    yield Case(
        case="what replicas = 2 costs, BSP",
        value=median(rates[2]),
        unit="steps/s",
        peer="replicas = 1",
        peer_value=median(rates[1]),
        goal="none",
        holds=exact,
        quality=f"contents of all runs {'bit-equal' if exact else 'DIFFER'}; steps/s in turns, "
        f"replicas = 2: {_list(rates[2])}, replicas = 1: {_list(rates[1])}",
        regime=f"{regime(TRAINING, 0)}; {STEPS} steps of each worker",
        n=rounds,
    )


def checkpointed(kills: int, seed: int) -> Iterator[Case]:
    """Kill without stand-bys: what the last checkpoint has comes back by itself."""
    with tempfile.TemporaryDirectory() as root:
        fields: dict[str, Any] = {"checkpoint_root": root, "checkpoint_interval_s": CHECKPOINT_S}
        ours = counting(1, kills=kills, seed=seed, **fields)
    missing, twice = lacking(ours)
    lost, restores = ours.total("lost_writes"), ours.status["restores"]
    sent = SHARDS * sum(worked.steps for worked in ours.workers)
    yield Case(
        case=f"ASP, replicas = 1, a checkpoint every {CHECKPOINT_S:g} s, {kills} kills",
        value=1 / max(median(ours.struck.whole_after_s), 1e-9),
        unit="restores/s",
        peer=f"the goal for stalls, {STALL_GOAL_S:g} s",
        peer_value=1 / STALL_GOAL_S,
        goal="restored by itself; what is missing is what was counted as lost",
        holds=restores == kills and missing == lost and twice == 0,
        quality=f"{restores} restores; of {sent:,} parts of pushes, one a shard, {missing:,} are "
        f"missing, {twice} twice, {lost:,} were counted as lost_writes, "
        f"{lost / kills:.0f} a kill, for kills come faster than checkpoints; {ours.told()}",
        regime=regime(COUNTING, kills),
        n=1,
    )


def _list(rates: list[float]) -> str:
    return ", ".join(f"{rate:.0f}" for rate in rates)


def cases(quick: bool, kills: int, seed: int) -> Iterator[Case]:
    """Stand-bys under BSP and ASP, what they cost, and checkpoints in their place."""
    if quick:
        kills = min(kills, 2)
    start_ray(num_cpus=2)
    try:
        yield from bsp(kills, seed)
        yield from asp(kills, seed)
        if not quick:
            yield from price(rounds=2)
            yield from checkpointed(max(kills // 4, 1), seed)
    finally:
        ray.shutdown()


def main() -> None:
    """Run the benchmark."""
    run("failover", cases, kills=20, seed=0)


if __name__ == "__main__":
    main()
