"""The pushes that wait on a shard for the end of their BSP tick, and what is news of them.

It knows neither tables nor the clock: what a push does when its time comes is the shard's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from weiml.ps.shard.transfer import Held

__all__ = ["HeldPushes"]

At = tuple[int, int]
"""(tick, worker) of a push."""


class HeldPushes:
    """Pushes by tick and worker, each worker's in the order in which they came.

    What has changed since `forget_news` is remembered for stand-bys.
    """

    def __init__(self) -> None:
        self._pushes: dict[At, list[Held]] = {}
        self._news: list[tuple[int, int, Held]] = []
        self._news_dropped: set[At] = set()

    def __len__(self) -> int:
        return sum(map(len, self._pushes.values()))

    def __bool__(self) -> bool:
        return bool(self._pushes)

    @property
    def at(self) -> frozenset[At]:
        """The (tick, worker) of which pushes are held."""
        return frozenset(self._pushes)

    @property
    def ticks(self) -> list[int]:
        """The ticks of which pushes are held, ascending."""
        return sorted({tick for tick, _ in self._pushes})

    def all(self) -> list[tuple[int, int, Held]]:
        """Return (tick, worker, push) of all, in the order in which they will act."""
        return [(t, w, p) for (t, w), pushes in sorted(self._pushes.items()) for p in pushes]

    def add(self, tick: int, worker: int, push: Held) -> None:
        """Hold another one."""
        self._pushes.setdefault((tick, worker), []).append(push)
        self._news.append((tick, worker, push))

    def drop(self, tick: int, worker: int) -> int:
        """Drop what a worker pushed in a tick; return how many there were."""
        at = (tick, worker)
        dropped = self._pushes.pop(at, [])
        self._news = [news for news in self._news if news[:2] != at]
        self._news_dropped.add(at)
        return len(dropped)

    def release(self, floor: int | None, ticks: list[int]) -> Iterator[Held]:
        """Yield the pushes of the ticks below `floor` (None: of all) and hold them no more.

        `ticks` are the workers' present ones.
        """
        for at in sorted(at for at in self._pushes if floor is None or at[0] < floor):
            if at[0] >= ticks[at[1]]:  # a worker that comes back begins this tick anew
                self._news_dropped.add(at)
            yield from self._pushes.pop(at)
        # What is applied is told with its rows; without a stand-by nobody else takes it from here.
        self._news = [news for news in self._news if news[:2] in self._pushes]

    def keep(self, kept: Callable[[Held], Held]) -> None:
        """Hold of each push what `kept` leaves of it, if that is anything."""
        before, self._pushes = self._pushes, {}
        for at, pushes in before.items():
            parts = [part for part in map(kept, pushes) if len(part.keys)]
            if parts:
                self._pushes[at] = parts
        self._news_dropped |= set(before)  # all that is left is told anew
        self._news = self.all()

    # What stand-bys are told

    def news(self) -> tuple[list[tuple[int, int, Held]], frozenset[At]]:
        """Return the pushes that came, and those (tick, worker) whose earlier ones were dropped."""
        came = [news for news in self._news if news[:2] in self._pushes]
        return came, frozenset(self._news_dropped)

    def forget_news(self) -> None:
        """Take it that every stand-by has been told everything."""
        self._news, self._news_dropped = [], set()

    def begin_anew(self, dropped: Container[At]) -> None:
        """As a stand-by: hold nothing of these (tick, worker); what is left comes again."""
        self._pushes = {at: pushes for at, pushes in self._pushes.items() if at not in dropped}

    def keep_at(self, left: Container[At]) -> None:
        """As a stand-by: hold only what is of these (tick, worker)."""
        self._pushes = {at: pushes for at, pushes in self._pushes.items() if at in left}
