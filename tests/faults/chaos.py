"""What happens to a simulated group while it is used: kills, moves, checkpoints, at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.faults.simulation import World
from weiml.ps import RayParameterServer
from weiml.ps.processes.actors import Role

__all__ = ["Chaos"]


class Chaos:
    """Strikes a group again and again until it is told to stop.

    With `replicas` a process is killed only while another has all that it acknowledged, else a
    loss would be right. `struck` tells what was done when.
    """

    def __init__(
        self, world: World, ps: RayParameterServer, kinds: tuple[str, ...], sizes: tuple[int, ...]
    ) -> None:
        self.struck: list[tuple[float, str, Any]] = []
        self.errors: list[Exception] = []
        self._world = world
        self._ps = ps
        self._name = ps.config.name
        self._kinds = kinds
        self._sizes = sizes
        self._asked: list[Any] = []
        self._stopped = False
        self._renew()
        self._schedule()

    def stop(self) -> None:
        """Strike no more, let what was asked for come to its end, and the group be whole again."""
        self._stopped = True
        for answer in self._asked:
            try:
                self._world.run(answer, 1000.0)
            except Exception as error:
                self.errors.append(error)
        self._world.until(lambda: not self._ps.status()["degraded"], "the group to be whole")

    def _schedule(self) -> None:
        pause = self._world.random.choice([0.02, 0.3, 1.5])
        self._world.loop.call_later(self._world.random.expovariate(1 / pause), self._strike)

    def _renew(self) -> None:
        # What clients' processes do all the time: it wakes a coordinator that was started again.
        if not self._stopped:
            self._ps._transport.coordinator.renew.remote(True, {}, {})
            self._world.loop.call_later(1.0, self._renew)

    def _strike(self) -> None:
        if self._stopped:
            return
        kind = self._world.random.choice(self._kinds)
        what = getattr(self, f"_{kind}")()
        if what is not None:
            self.struck.append((round(self._world.loop.time(), 4), kind, what))
        self._schedule()

    def _primary(self) -> str | None:
        return self._kill([name for name, followers in self._primaries() if followers])

    def _standby(self) -> str | None:
        return self._kill([name for _, followers in self._primaries() for name in followers])

    def _any(self) -> str | None:
        return self._kill([name for name, _ in self._primaries()])

    def _coordinator(self) -> str | None:
        return self._kill([f"{self._name}/coordinator"])

    def _rescale(self) -> int:
        size = self._world.random.choice(self._sizes)
        self._asked.append(self._ps._transport.coordinator.rescale.remote(size))
        return size

    def _checkpoint(self) -> bool:
        full = self._world.random.random() < 0.3
        self._asked.append(self._ps._transport.coordinator.checkpoint.remote(full))
        return full

    def _kill(self, names: list[str]) -> str | None:
        if not names:
            return None
        name = self._world.random.choice(names)
        self._world.kill(name)
        return name

    def _primaries(self) -> list[tuple[str, list[str]]]:
        """Return the processes that speak for shards, and of each those that follow it exactly."""
        found = []
        for name in sorted(self._world.names):
            shard = self._shard(name)
            if shard is not None and shard.role is Role.PRIMARY:
                found.append((name, [n for n in shard._standbys if self._follows(n)]))
        return found

    def _follows(self, name: str) -> bool:
        shard = self._shard(name)
        return shard is not None and shard._follows

    def _shard(self, name: str) -> Any:
        process = self._world.process(name) if "/shard-" in name else None
        return None if process is None else process.instance


def repeat(work: Callable[[], None], until: Callable[[], bool]) -> Callable[[], int]:
    """Return a program that works until a condition holds, and returns how often it did."""

    def program() -> int:
        times = 0
        while not until():
            work()
            times += 1
        return times

    return program
