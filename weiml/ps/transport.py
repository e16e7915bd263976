"""How requests reach the shards: the one thing in which the embedded and the Ray server differ."""

from __future__ import annotations

import abc
from typing import Any

from weiml.ps.base import GroupConfig

__all__ = ["Transport"]


class Transport(abc.ABC):
    """Sends verbs to the shards of one group.

    The verbs of `weiml.ps.shard.READS` and `WRITES` carry a `Stamp` first and may wait on their
    shard; the others act at once. Requests may arrive in any order; shards restore a client's own.
    """

    name: str
    config: GroupConfig

    @abc.abstractmethod
    def send(self, shard: int, verb: str, *arguments: Any) -> Any:
        """Send one request; return a handle for `result`."""

    @abc.abstractmethod
    def result(self, shard: int, handle: Any) -> Any:
        """Wait for the answer of one request.

        Raises:
            ParameterServerError: the shard refused, timed out or is gone.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End the shards and make sure that they are gone; idempotent."""

    def ask(self, verb: str, *arguments: Any) -> list[Any]:
        """Send the same request to all shards and wait for all answers."""
        shards = range(self.config.num_shards)
        return self.results([(shard, self.send(shard, verb, *arguments)) for shard in shards])

    def results(self, sent: list[tuple[int, Any]]) -> list[Any]:
        """Wait for all of the answers to (shard, handle); then raise the first error, if any."""
        answers: list[Any] = []
        errors: list[Exception] = []
        for shard, handle in sent:
            try:
                answers.append(self.result(shard, handle))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers
