"""How requests reach the shards: the one thing in which the embedded and the Ray server differ."""

from __future__ import annotations

import abc
from typing import Any

from weiml.ps.base import GroupConfig
from weiml.ps.partition import Partition

__all__ = ["ShardGoneError", "StillWaitingError", "Transport"]


class ShardGoneError(Exception):
    """The process that a request was sent to is no more; `Transport.recover` says how to go on."""

    def __init__(self, shard: int, why: str) -> None:
        super().__init__(shard, why)
        self.shard = shard
        self.why = why
        self.epoch: int | None = None
        """Of the process that is gone, where the transport tells them apart."""


class StillWaitingError(Exception):
    """The answer to a request has not come yet."""


class Transport(abc.ABC):
    """Sends verbs to the shards of one group.

    The verbs of `READS` and `WRITES` (`weiml.ps.shard.shard`) carry a `Stamp` first and may wait on
    their shard; the others act at once. Requests may arrive in any order; shards restore a
    client's own.
    """

    name: str
    config: GroupConfig
    workers: dict[str, int]
    """Clients of this process that speak for a worker, and for which."""

    @property
    @abc.abstractmethod
    def partition(self) -> Partition:
        """The newest partition that this transport has heard of."""

    def newest(self) -> Partition:
        """Return the partition in force, asked for where another process may have changed it."""
        return self.partition

    @abc.abstractmethod
    def refresh(self, version: int) -> Partition:
        """Return a partition of at least `version`, waiting for it if need be."""

    @abc.abstractmethod
    def send(self, shard: int, verb: str, *arguments: Any) -> Any:
        """Send one request; return a handle for `result`."""

    @abc.abstractmethod
    def result(self, shard: int, handle: Any, patience_s: float | None = None) -> Any:
        """Wait for the answer of one request.

        Raises:
            ParameterServerError: the shard refused or timed out.
            ShardGoneError: its process is no more.
            StillWaitingError: there is no answer after `patience_s`; ask for it again.
        """

    def epoch(self, handle: Any) -> int:
        """Return which of a shard's processes, told by ascending numbers, a request went to."""
        return 0

    def born(self, shard: int) -> int:
        """Return the version of the partition that brought a shard.

        One of that number that was removed before is another one.
        """
        return 0

    @abc.abstractmethod
    def recover(self, gone: ShardGoneError) -> bool:
        """Wait until another process stands for a lost shard; False if the shard was removed.

        Raises:
            ParameterServerError: nothing holds what the shard held.
        """

    @abc.abstractmethod
    def rescale(self, num_shards: int) -> None:
        """Change the number of shards; see `weiml.ps.rescale`."""

    @abc.abstractmethod
    def checkpoint(self, full: bool) -> str:
        """Take the next checkpoint below checkpoint_root; return its path."""

    @abc.abstractmethod
    def save(self, path: str) -> None:
        """Write a full checkpoint to `path`."""

    @abc.abstractmethod
    def load(self, path: str) -> None:
        """Replace the content of all shards by a checkpoint's."""

    def statuses(self) -> list[dict[str, Any]]:
        """Return each shard's status."""
        return self.ask("status")

    def group_status(self) -> dict[str, Any]:
        """Return what is known of the group as a whole, beside its shards."""
        return {"version": self.partition.version}

    def enter(self, worker: int, client: str) -> None:
        """Note that a client of this process speaks for `worker`."""
        self.workers[client] = worker

    def leave(self, client: str) -> None:
        """Note that a client has finished."""
        self.workers.pop(client, None)

    @abc.abstractmethod
    def close(self) -> None:
        """End the shards and make sure that they are gone; idempotent."""

    def ask_one(self, shard: int, verb: str, *arguments: Any) -> Any:
        """Ask one shard something that is harmless to ask twice, and wait for the answer.

        Raises:
            ShardGoneError: it was removed.
        """
        while True:
            try:
                return self.result(shard, self.send(shard, verb, *arguments))
            except ShardGoneError as gone:
                if not self.recover(gone):
                    raise

    def ask(self, verb: str, *arguments: Any) -> list[Any]:
        """Ask all shards the same, harmless to ask twice, and wait for all answers."""
        while True:
            try:
                return self._ask_each(verb, *arguments)
            except ShardGoneError:
                continue  # one was removed meanwhile: there is another number of them now

    def ask_settled(self, verb: str, *arguments: Any) -> tuple[Partition, list[Any]]:
        """Ask all shards for a change, again if buckets moved meanwhile: then a new one missed it.

        Returns:
            The partition of all that time, and its shards' answers.
        """
        partition = self.newest()
        while True:
            answers = self.ask(verb, *arguments)
            before, partition = partition, self.newest()
            if partition.version == before.version:
                return partition, answers

    def _ask_each(self, verb: str, *arguments: Any) -> list[Any]:
        shards = range(self.newest().num_shards)
        sent = [self._try_to_send(shard, verb, *arguments) for shard in shards]
        answers: list[Any] = []
        errors: list[Exception] = []
        for shard, handle in enumerate(sent):
            try:
                if isinstance(handle, ShardGoneError):
                    raise handle
                answers.append(self.result(shard, handle))
            except ShardGoneError as gone:
                if not self.recover(gone):
                    raise
                answers.append(self.ask_one(shard, verb, *arguments))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers

    def _try_to_send(self, shard: int, verb: str, *arguments: Any) -> Any:
        try:
            return self.send(shard, verb, *arguments)
        except ShardGoneError as gone:
            return gone
