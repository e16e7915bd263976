"""A look at a group before training: do its collectives give the right numbers, and how fast?"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import numpy as np

from weiml.errors import ClusterError, ConfigError
from weiml.group.base import Collective, Group, WorkerContext
from weiml.group.collectives import AllGather, AllReduce, Barrier, Broadcast

__all__ = ["CheckResult", "check_collectives", "check_group"]


class CheckResult(NamedTuple):
    """What a check measured."""

    num_workers: int
    bytes: int
    """Of the array that was reduced."""
    rounds: int
    seconds: float
    """Median of an all-reduce, at the slowest worker."""

    @property
    def algorithm_bandwidth(self) -> float:
        """Bytes of the array reduced a second."""
        return self.bytes / self.seconds

    @property
    def bus_bandwidth(self) -> float:
        """Bytes a second that cross each worker's link: 2 (n − 1)/n of the array's."""
        return self.algorithm_bandwidth * 2 * (self.num_workers - 1) / self.num_workers


def check_group(group: Group, size: int, rounds: int = 5) -> CheckResult:
    """Reduce, gather and broadcast known numbers on all workers, and time the all-reduce.

    Args:
        group: running.
        size: bytes of the array, of float32; at least 4.
        rounds: all-reduces to time.

    Raises:
        ClusterError: a worker got wrong numbers, died or could not reach the others.
    """
    if size < 4 or rounds < 1:
        raise ConfigError(f"size must be at least 4 bytes and rounds 1, got {size} and {rounds}")
    seconds = max(group.run(check_collectives, size // 4, rounds))
    return CheckResult(group.num_workers, size // 4 * 4, rounds, seconds)


def check_collectives(context: WorkerContext, length: int, rounds: int) -> Collective:
    """Check every collective on this worker; return the median seconds of an all-reduce."""
    rank, n = context.rank, context.num_workers
    base = np.arange(length, dtype=np.float32) % 1000
    wanted = base + np.float32((n - 1) / 2)
    times = []
    for _ in range(rounds):
        yield Barrier()
        begin = time.perf_counter()
        mean = yield AllReduce(base + np.float32(rank))
        times.append(time.perf_counter() - begin)
        _expect(context, "mean", np.allclose(mean, wanted, rtol=1e-2))
    largest = yield AllReduce(np.array([rank], np.int64), "max")
    _expect(context, "maximum", largest.tolist() == [n - 1])
    ranks = yield AllGather(np.array([rank], np.int32))
    _expect(context, "all-gather", [int(one[0]) for one in ranks] == list(range(n)))
    last = yield Broadcast(np.array([rank], np.int32), root=n - 1)
    _expect(context, "broadcast", last.tolist() == [n - 1])
    return statistics.median(times)


def _expect(context: WorkerContext, what: str, right: bool) -> None:
    if not right:
        raise ClusterError(
            f"worker {context.rank} of {context.num_workers} on {context.device}: the {what} came "
            "out wrong; the interface or the GPUs' links are faulty. Try backend='gloo', and "
            "another interface"
        )
