"""The workers' clock: who has finished how many ticks, and who may read at a given tick.

Plain bookkeeping. It knows no tables and does not wait; shards ask it and wait themselves.
"""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Ticks of `num_workers` workers under one staleness bound.

    `staleness` 0 is bulk-synchronous (BSP), s stale-synchronous (SSP: Ho et al., NIPS 2013),
    None asynchronous (ASP). A worker at tick t may read when every live worker has finished at
    least ``t - staleness`` ticks. A worker that finished no longer holds anybody up.
    """

    def __init__(self, num_workers: int, staleness: int | None) -> None:
        self.staleness = staleness
        self.ticks = [0] * num_workers
        self.live = [True] * num_workers
        self.count = 0
        """Ticks of all workers since the beginning. Not the sum of `ticks`: a worker that comes
        back skips some."""

    @property
    def floor(self) -> int | None:
        """The least number of ticks that a live worker has finished; None when none is live."""
        ticks = [t for t, live in zip(self.ticks, self.live, strict=True) if live]
        return min(ticks, default=None)

    def waiting_for(self, tick: int) -> list[int]:
        """Return the workers that must still tick before anyone may read at `tick`."""
        if self.staleness is None:
            return []
        need = tick - self.staleness
        return [w for w, t in enumerate(self.ticks) if self.live[w] and t < need]

    def tick(self, worker: int) -> int:
        """Note that `worker` has finished its step; return its number among all workers' steps."""
        self.ticks[worker] += 1
        self.count += 1
        return self.count

    def finish(self, worker: int) -> None:
        """Take `worker` out of the clock."""
        self.live[worker] = False

    def join(self, worker: int) -> int:
        """Put `worker` (back) into the clock and return the tick it stands at.

        A live worker goes on where it stands. When all workers have finished, a new round begins
        in which all of them are live at the same tick: the order in which they come back does not
        matter. A worker that comes back while others go on starts at the slowest one's tick.
        """
        if not any(self.live):
            latest = max(self.ticks)
            self.ticks = [latest] * len(self.ticks)
            self.live = [True] * len(self.live)
        elif not self.live[worker]:
            self.ticks[worker] = max(self.ticks[worker], self.floor or 0)
            self.live[worker] = True
        return self.ticks[worker]
