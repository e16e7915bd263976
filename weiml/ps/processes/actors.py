"""A shard as a process: the asynchronous shell that waits on the clock and keeps stand-bys exact.

The shell is a plain class; the coordinator makes actors of it. All of a shard's work happens in
turn on its event loop (one writer); while a pull waits for the clock, pushes and ticks go on.

A write is answered when every stand-by has what it changed. Updates to stand-bys hold rows as they
are afterwards, so however many pushes came while the last update was on its way, the next one
carries each changed row once.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig
from weiml.ps.checkpoint.chain import Chain
from weiml.ps.checkpoint.parts import ShardRecord
from weiml.ps.checkpoint.shard_writer import write_shard
from weiml.ps.checkpoint.writer import CheckpointSpec
from weiml.ps.functions.registry import load_function_modules
from weiml.ps.metrics.exporter import Exporter, Sample, ShardMetrics, shard_samples
from weiml.ps.partition import Partition
from weiml.ps.shard.following import (
    CopyStart,
    apply_update,
    begin_copy,
    collect_update,
    copy_start,
    forget_news,
    take_rows,
)
from weiml.ps.shard.parts import read_content
from weiml.ps.shard.shard import MOVING, QUESTIONS, READS, WRITES, Shard, UnknownKeys
from weiml.ps.shard.transfer import ShardRows, ShardUpdate, Stamp

__all__ = ["NAMESPACE", "DeposedError", "Role", "ShardActor", "coordinator_name", "shard_name"]

NAMESPACE = "weiml-ps"
"""The Ray namespace of all groups."""
_SWITCH_S = 5e-4  # after which a checkpoint's thread lets the event loop go on; Python has 5e-3
_BUCKETS_A_COPY = 16

log = logging.getLogger(__name__)


def coordinator_name(group: str) -> str:
    """Return the name of a group's coordinator in `NAMESPACE`."""
    return f"{group}/coordinator"


def shard_name(group: str, shard: int, number: int) -> str:
    """Return the name of a shard's process; a shard has several over time, told by `number`."""
    return f"{group}/shard-{shard}/{number}"


class Role(enum.Enum):
    """What a process is to its shard."""

    STANDBY = "standby"
    PRIMARY = "primary"
    ENDED = "ended"


class DeposedError(Exception):
    """The process does not speak for its shard: ask the coordinator who does."""


class ShardActor:
    """A shard whose requests may wait. Make an actor of it with ``ray.remote``."""

    def __init__(
        self,
        config: GroupConfig,
        index: int,
        number: int,
        partition: Partition,
        epoch: int,
        role: str,
    ) -> None:
        sys.setswitchinterval(_SWITCH_S)
        load_function_modules(config.function_modules)
        self.config = config
        self.role = Role(role)
        self._number = number
        self._epoch = epoch
        self._shard = Shard(config, index, partition)
        self._metrics = ShardMetrics()
        self._shard.observe = self._metrics.see
        self._changed = asyncio.Condition()
        self._follows = False  # a stand-by that has everything
        self._standbys: dict[str, ActorHandle] = {}
        self._sent = 0  # sequence number that the stand-bys have
        self._writes = 0  # since the start, and how many of them the stand-bys have
        self._replicated = 0
        self._replicating = asyncio.Lock()
        self._loop_started: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._end = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._exporting: asyncio.Task[None] | None = None

    async def hello(self) -> dict[str, Any]:
        """Say who this is: the process is up."""
        return {
            "config": self.config,
            "shard": self._shard.index,
            "number": self._number,
            "epoch": self._epoch,
            "role": self.role.value,
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "partition": self._shard.partition,
            "standbys": list(self._standbys),
            "frozen": self._shard.frozen,
        }

    async def until_end(self) -> None:
        """Return when the process is asked to end; whoever awaits it learns of a crash at once."""
        await self._end.wait()

    # Requests

    async def call(self, verb: str, *arguments: Any) -> Any:
        """Run a verb of `Shard`, after what it has to wait for.

        Raises:
            DeposedError: another process speaks for the shard.
        """
        self._check_primary()
        known = self._shard.arrived(verb, arguments)
        if isinstance(known, UnknownKeys):
            return known
        arguments = known
        if verb == "pull":  # the most frequent by far
            await self._until_free(verb, arguments[0])
            self._check_primary()
            begun = time.perf_counter()
            answer = self._shard.serve(verb, *arguments)
            self._metrics.pulls.add(time.perf_counter() - begun)
            return answer
        if verb == "status":
            return await self.status()
        stamped = verb in READS or verb in WRITES
        if stamped:
            await self._until_free(verb, arguments[0])
            self._check_primary()
        elif verb in MOVING:
            await self._until_thawed()
            self._check_primary()
        begun = time.perf_counter()
        try:
            if stamped:
                return self._shard.serve(verb, *arguments)
            return getattr(self._shard, verb)(*arguments)
        finally:
            # Followers see what a stand-by has too.
            if verb == "delta" or (verb not in READS and verb not in QUESTIONS):
                await self._tell_all()
            if verb == "push":
                self._metrics.pushes.add(time.perf_counter() - begun)

    async def status(self) -> dict[str, Any]:
        """Return the shard's status and that of its replication."""
        return {
            **self._shard.status(),
            "number": self._number,
            "epoch": self._epoch,
            "role": self.role.value,
            "standbys": len(self._standbys),
            "replication_lag": self._writes - self._replicated,
            **self._metrics.status(self._shard.tables),
        }

    async def _samples(self, lag_s: float) -> tuple[list[Sample], bool]:
        self._metrics.loop_lag_s = lag_s
        return shard_samples(await self.status()), self.role is not Role.PRIMARY

    async def _until_free(self, verb: str, stamp: Stamp) -> None:
        if self._shard.blocked(verb, stamp) is None:
            return
        # A write that was given up would hold up all that its client sends later: it waits for as
        # long as the client does.
        write = verb in WRITES
        limit = self.config.call_timeout_s if write else self.config.wait_timeout_s
        try:
            with self._metrics.wait():
                async with asyncio.timeout(limit), self._changed:
                    await self._changed.wait_for(lambda: self._shard.blocked(verb, stamp) is None)
        except TimeoutError:
            knob = "call_timeout_s" if write else "wait_timeout_s"
            raise ParameterServerError(
                f"parameter server group {self.config.name!r}, shard {self._shard.index}: a "
                f"{verb} waited {knob} = {limit:g} s for {self._shard.blocked(verb, stamp)}; see "
                f"why that does not come, or raise {knob}"
            ) from None

    async def _until_thawed(self) -> None:
        if self._shard.frozen:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._shard.frozen)

    def _check_primary(self) -> None:
        if self.role is not Role.PRIMARY:
            raise DeposedError

    # Stand-bys

    async def _tell_all(self) -> None:
        """Let waiting requests look again, and wait until the stand-bys have what changed."""
        async with self._changed:
            self._changed.notify_all()
        if not self._standbys:
            return
        self._writes += 1
        mine = self._writes
        self._wake.set()
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._replicated >= mine or self.role is Role.ENDED
            )
        self._check_primary()

    async def _replicate_for_ever(self) -> None:
        while self.role is Role.PRIMARY:
            await self._wake.wait()
            self._wake.clear()
            async with self._replicating:
                try:
                    await self._replicate()
                except Exception:  # writes wait for it: better without stand-bys than for ever
                    log.exception("shard %d could not tell its stand-bys", self._shard.index)
                    for name in list(self._standbys):
                        await self._lose(name)
                    self._wake.set()

    async def _replicate(self, joining: dict[str, ActorHandle] | None = None, at: int = 0) -> None:
        """Bring all stand-bys up to now, those of `joining` from the start `at` of their copy."""
        upto = self._writes
        updates = {}
        if self._standbys:
            update = collect_update(self._shard, self._sent, self._epoch)
            updates = dict.fromkeys(self._standbys, update)
        if joining:
            everything = collect_update(self._shard, at, self._epoch, copied=True)
            forget_news(self._shard)
            updates |= dict.fromkeys(joining, everything)
            self._standbys |= joining
        self._sent = self._shard.sequence
        await self._send(updates)
        self._replicated = max(self._replicated, upto)
        async with self._changed:
            self._changed.notify_all()

    async def _send(self, updates: dict[str, ShardUpdate]) -> None:
        """Send updates to stand-bys; one that fails is none any more, once all know of it."""
        sent = [self._standbys[name].follow.remote(update) for name, update in updates.items()]
        for name, answer in zip(updates, sent, strict=True):
            try:
                await answer
            except DeposedError:
                log.warning("shard %d: a newer epoch took over", self._shard.index)
                self.role = Role.ENDED
                self._end.set()
            except Exception as error:
                if not isinstance(error, RayActorError):
                    log.exception("shard %d: stand-by %s failed", self._shard.index, name)
                await self._lose(name)

    async def _lose(self, name: str) -> None:
        # The coordinator first: it must not promote a stand-by that misses what is answered next.
        while self.role is Role.PRIMARY and name in self._standbys:
            try:
                coordinator = ray.get_actor(coordinator_name(self.config.name), NAMESPACE)
                await coordinator.standby_lost.remote(self._shard.index, name)
            except (ValueError, RayActorError):
                await asyncio.sleep(0.1)  # it comes back by itself
                continue
            self._standbys.pop(name, None)

    async def add_standby(self, name: str) -> None:
        """Copy everything to a stand-by while requests go on, then keep it exact.

        Raises:
            ParameterServerError: it was lost meanwhile.
        """
        handle = ray.get_actor(name, NAMESPACE)
        start = copy_start(self._shard)
        await handle.begin_copy.remote(start)
        num_buckets = self.config.num_buckets
        for first in range(0, num_buckets, _BUCKETS_A_COPY):
            some = np.arange(first, min(first + _BUCKETS_A_COPY, num_buckets), dtype=np.int32)
            await handle.take.remote(self._shard.export_buckets(some, arriving=True))
        async with self._replicating:
            await self._replicate({name: handle}, start[1])
        if name not in self._standbys:
            raise ParameterServerError(f"stand-by {name} was lost while it was copied to")
        if self._loop_started is None:
            self._loop_started = asyncio.create_task(self._replicate_for_ever())
        self._wake.set()

    async def drop_standby(self, name: str) -> None:
        """Forget a stand-by that the coordinator knows to be gone."""
        self._standbys.pop(name, None)
        self._wake.set()

    async def begin_copy(self, start: CopyStart) -> None:
        """As a new stand-by: make ready to be copied to."""
        begin_copy(self._shard, start)

    async def take(self, rows: ShardRows) -> None:
        """As a new stand-by: take over rows."""
        take_rows(self._shard, rows)

    async def follow(self, update: ShardUpdate) -> None:
        """As a stand-by: become what the shard was.

        Raises:
            DeposedError: the sender's epoch is over.
        """
        if update.epoch < self._epoch or self.role is not Role.STANDBY:
            raise DeposedError
        apply_update(self._shard, update)
        self._follows = True

    async def promote(self, epoch: int) -> bool:
        """Speak for the shard from now on; False if not everything was copied here yet."""
        if self.role is Role.STANDBY and self._follows:
            self.role = Role.PRIMARY
            self._epoch = epoch
        return self.role is Role.PRIMARY

    # Checkpoints

    async def save(self, spec: CheckpointSpec) -> ShardRecord | None:
        """Write this shard's part of a checkpoint beside the event loop, while requests go on.

        None: it is to be a delta, and the shard does not remember as far back.
        """
        self._check_primary()
        part = self._shard.part(spec.base(self._shard.index), self._in_turn)
        if part is None:
            return None
        return await asyncio.to_thread(write_shard, spec, part)

    def _in_turn(self, work: Callable[[], Any]) -> Any:
        """Run `work` on the event loop, from a thread beside it, and wait for what it returns."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def load(self, chain: Chain) -> None:
        """Read this shard's part of a checkpoint beside the event loop and stage it."""
        self._check_primary()
        self._shard.stage(await asyncio.to_thread(read_content, self._shard, chain))

    async def commit(self, chain: Chain) -> None:
        """Put in force what was loaded; a stand-by that took over since loads it now."""
        if not self._shard.staged:
            await self.load(chain)
        self._check_primary()
        self._shard.commit(chain)
        await self._tell_all()

    async def unstage(self) -> None:
        """Forget what was loaded."""
        self._shard.unstage()

    async def restore(self, chain: Chain, live: list[int]) -> None:
        """As a new process of a lost shard: become what a checkpoint says, with these workers."""
        await asyncio.to_thread(self._shard.restore, chain)
        self._shard.set_live(live)
        self._follows = True

    async def start(self) -> dict[str, Any]:
        """Remember the event loop, begin to export metrics; returns `hello`."""
        self._loop = asyncio.get_running_loop()
        if self._exporting is None:  # a coordinator that starts again asks again
            exporter = Exporter(self.config.name)
            self._exporting = asyncio.create_task(exporter.run(self._samples))
        return await self.hello()
