"""A run on a gang of another size: the same steps, shared out among fewer or more workers.

A step takes ``num_workers · accumulate`` batches of an epoch's order (``split = "steps"``), whoever
computes them: with W' workers each takes ``num_workers · accumulate / W'`` of them. Under BSP all
sums are then over the same examples. What differs is rounding; the order in which a step's pushes
act on a row; and what each worker has for itself: draws for dropout, statistics of batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from weiml.group import WorkerGroupConfig, WorkerInfo, gpus_of, room_for
from weiml.train.config import TrainConfig

__all__ = ["gang_sizes", "one_machine", "regrouped", "resized", "sizes_of"]

_TOTALS = "totals"


def sizes_of(config: TrainConfig) -> list[int]:
    """Return the gangs that a run may have, ascending: those among which its batches divide."""
    batches = config.num_workers * config.accumulate
    sizes = range(config.fewest_workers, config.most_workers + 1)
    return [size for size in sizes if batches % size == 0]


def resized(config: TrainConfig, workers: int) -> TrainConfig:
    """Return the configuration by which `workers` take the steps of `config`."""
    if workers == config.num_workers:
        return config
    batches = config.num_workers * config.accumulate
    assert batches % workers == 0, f"{batches} batches do not divide among {workers} workers"
    return replace(
        config,
        num_workers=workers,
        accumulate=batches // workers,
        min_workers=None,
        max_workers=None,
    )


def one_machine(group: WorkerGroupConfig, fewest: int) -> WorkerGroupConfig:
    """Return how gangs of changing size are placed: on one machine if they listen on loopback.

    ``gpus_per_worker = "auto"`` becomes the number that `fewest` workers would have, of any size.
    """
    placement = "STRICT_PACK" if group.interface == "loopback" else group.placement
    gpus = gpus_of(replace(group, num_workers=fewest))
    return replace(group, placement=placement, gpus_per_worker=gpus)


def gang_sizes(
    config: TrainConfig, group: WorkerGroupConfig, held: Sequence[WorkerInfo] = ()
) -> list[int]:
    """Return the gangs that there is room for now, the largest first; at least the smallest.

    Args:
        config: of the run.
        group: what each worker takes, from `one_machine`.
        held: workers whose room would be free again.
    """
    sizes = sizes_of(config)
    room = room_for(
        replace(group, num_workers=sizes[-1]), held=[info.node for info in held], wait=not held
    )
    return [size for size in reversed(sizes) if size <= room] or sizes[:1]


def regrouped(states: Sequence[dict[str, np.ndarray]], workers: int) -> list[dict[str, np.ndarray]]:
    """Return what `weiml.train.worker.save_worker` gave, a state for each of `workers` ranks.

    Ranks that were there keep what they have; a new one takes the first's dense part, which all
    share, and draws from its own beginning. The epoch's sums go to the first.
    """
    if workers == len(states):
        return list(states)
    shared = {name: array for name, array in states[0].items() if not name.startswith("worker/")}
    found = [dict(states[rank] if rank < len(states) else shared) for rank in range(workers)]
    for state in found:
        state[_TOTALS] = np.zeros_like(states[0][_TOTALS])
    found[0][_TOTALS] = np.sum([state[_TOTALS] for state in states], axis=0)
    return found
