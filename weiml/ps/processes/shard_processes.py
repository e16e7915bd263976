"""The processes of a group's shards as Ray actors: started, placed, found again and ended.

It does not know which of a shard's processes speaks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from weiml.ps.partition import Partition
from weiml.ps.processes.actors import NAMESPACE, Role, ShardActor, shard_name
from weiml.ps.processes.liveness import nodes
from weiml.ps.processes.members import Members, Process

__all__ = ["Found", "ShardProcesses"]

_PLACINGS = 10
_PLACE_AGAIN_S = 0.5

log = logging.getLogger(__name__)

Found = tuple[Process, dict[str, Any]]
"""A process and what it says of itself; see `ShardActor.hello`."""


class ShardProcesses:
    """The processes of one group's shards; `members` says which nodes they crowd."""

    def __init__(self, members: Members) -> None:
        self._config = members.config
        self._members = members
        self._numbers: dict[int, int] = {}  # by shard, of its latest process
        self._coming: dict[str, tuple[int, str, Role]] = {}
        """Name: shard, node and role of those that are just being started."""

    async def start(self, shard: int, partition: Partition, epoch: int, role: Role) -> Process:
        """Start another process of a shard and wait until it is up.

        On a node without one of the shard, where there is one: a node takes all its processes along
        when it dies.
        """
        for _ in range(_PLACINGS):
            wanted = self._choose(shard)
            process = await self._start(shard, partition, epoch, role, wanted)
            if wanted in (None, process.node) or process.node not in self._nodes_of(shard):
                return process
            # A node that is new knows of no other for a while, and starts all that it is asked for.
            self.end(process)
            await asyncio.sleep(_PLACE_AGAIN_S)
        log.warning("shard %d: its processes lie on one node, for Ray offers no other", shard)
        return await self._start(shard, partition, epoch, role, self._choose(shard))

    async def _start(
        self, shard: int, partition: Partition, epoch: int, role: Role, node: str | None
    ) -> Process:
        number = self._numbers.get(shard, -1) + 1
        self._numbers[shard] = number
        name = shard_name(self._config.name, shard, number)
        if node is not None:
            self._coming[name] = shard, node, role
        # No CPU is reserved: shards work in bursts while the workers wait for them.
        made = ray.remote(ShardActor).options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=10_000,
            scheduling_strategy=(
                "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)
            ),
        )
        handle = made.remote(self._config, shard, number, partition, epoch, role.value)
        try:
            hello = await asyncio.wait_for(
                _await(handle.start.remote()), self._config.start_timeout_s
            )
        except BaseException:
            ray.kill(handle, no_restart=True)
            raise
        finally:
            self._coming.pop(name, None)
        return Process(name, number, handle, hello["pid"], hello["node"])

    def _nodes_of(self, shard: int) -> set[str]:
        """Return where processes of a shard are, or are being started."""
        member = self._members.by_shard.get(shard)
        here = set() if member is None else {process.node for process in member.processes}
        return here | {node for other, node, _ in self._coming.values() if other == shard}

    def _choose(self, shard: int) -> str | None:
        """Return the node with the least work of this group, of this shard above all.

        One that speaks for its shard has twice the work of a stand-by. None: there is one node.
        """
        up = nodes()
        if len(up) < 2:
            return None
        load = dict.fromkeys(up, 0)

        def count(other: int, node: str, primary: bool) -> None:
            if node in load:
                load[node] += (1000 if other == shard else 0) + 1 + primary

        for other, member in self._members.by_shard.items():
            for process in member.processes:
                count(other, process.node, process is member.primary)
        for other, node, role in self._coming.values():
            count(other, node, role is Role.PRIMARY)
        return min(up, key=load.__getitem__)

    async def find(self) -> list[Found]:
        """Return those that run: for a coordinator that starts again."""
        prefix = f"{self._config.name}/shard-"
        names = [
            actor["name"]
            for actor in ray.util.list_named_actors(all_namespaces=True)
            if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)
        ]
        found = await asyncio.gather(*map(self._greet, names))
        return [pair for pair in found if pair is not None]

    async def _greet(self, name: str) -> Found | None:
        """Return a process and what it says of itself; one that says nothing is ended."""
        try:
            handle = ray.get_actor(name, NAMESPACE)
        except ValueError:
            return None
        try:
            # It may be busy; taken for dead by mistake, it would go on beside its successor.
            limit = self._config.start_timeout_s
            hello = await asyncio.wait_for(_await(handle.start.remote()), limit)
        except (RayActorError, TimeoutError):
            ray.kill(handle, no_restart=True)
            return None
        return Process(name, hello["number"], handle, hello["pid"], hello["node"]), hello

    def count_from(self, shard: int, found: list[Found]) -> None:
        """Number a shard's next process after those that were found."""
        self._numbers[shard] = max((process.number for process, _ in found), default=-1)

    def end(self, process: Process) -> None:
        """End a process at once, if it runs."""
        ray.kill(process.handle, no_restart=True)

    def end_named(self, name: str) -> None:
        """End the process of that name, if there is one."""
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)

    def end_all_of(self, shard: int) -> None:
        """End all processes of a shard, those too that are just being started."""
        for number in range(self._numbers[shard] + 1):
            self.end_named(shard_name(self._config.name, shard, number))

    def end_all(self) -> None:
        """End all processes of the group."""
        for shard in self._numbers:
            self.end_all_of(shard)


async def _await(answer: Any) -> Any:
    return await answer
