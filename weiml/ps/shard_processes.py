"""The processes of a group's shards as Ray actors: started, placed, found again and ended.

It does not know which of a shard's processes speaks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from weiml.ps.actors import NAMESPACE, Role, ShardActor, shard_name
from weiml.ps.liveness import nodes
from weiml.ps.members import Members, Process
from weiml.ps.partition import Partition

__all__ = ["Found", "ShardProcesses"]

Found = tuple[Process, dict[str, Any]]
"""A process and what it says of itself; see `ShardActor.hello`."""


class ShardProcesses:
    """The processes of one group's shards; `members` says which nodes they crowd."""

    def __init__(self, members: Members) -> None:
        self._config = members.config
        self._members = members
        self._numbers: dict[int, int] = {}  # by shard, of its latest process

    async def start(self, shard: int, partition: Partition, epoch: int, role: Role) -> Process:
        """Start another process of a shard and wait until it is up."""
        number = self._numbers.get(shard, -1) + 1
        self._numbers[shard] = number
        name = shard_name(self._config.name, shard, number)
        # No CPU is reserved: shards work in bursts while the workers wait for them.
        made = ray.remote(ShardActor).options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=10_000,
            scheduling_strategy=self._place(shard),
        )
        handle = made.remote(self._config, shard, number, partition, epoch, role.value)
        try:
            hello = await asyncio.wait_for(
                _await(handle.start.remote()), self._config.start_timeout_s
            )
        except BaseException:
            ray.kill(handle, no_restart=True)
            raise
        return Process(name, number, handle, hello["pid"], hello["node"])

    def _place(self, shard: int) -> Any:
        """Choose the node with the fewest processes of this group, of this shard above all."""
        up = nodes()
        if len(up) < 2:
            return "DEFAULT"
        load = dict.fromkeys(up, 0)
        for other, member in self._members.by_shard.items():
            for process in member.processes:
                if process.node in load:
                    load[process.node] += 1000 if other == shard else 1
        return NodeAffinitySchedulingStrategy(min(up, key=load.__getitem__), soft=True)

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
