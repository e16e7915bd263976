"""Logical workers inside the calling process, stepped in turn: no threads, no processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from weiml.errors import ClusterError
from weiml.group.base import Collective, Group, WorkerContext, check_num_workers
from weiml.group.collectives import (
    Compression,
    Handle,
    Request,
    Start,
    answer_of,
    as_request,
    check_choice,
    describe,
)

__all__ = ["LocalGroup"]


class LocalGroup(Group):
    """`num_workers` logical workers, driven in lock step by one loop in rank order.

    Args:
        num_workers: how many.
        compression: what gradients would be rounded to on their way; see `Compression`.
    """

    def __init__(self, num_workers: int = 1, *, compression: Compression = "none") -> None:
        check_num_workers(num_workers)
        check_choice("compression", compression, get_args(Compression))
        self.num_workers = num_workers
        self._compression: Compression = compression
        self._contexts = [WorkerContext(rank, num_workers) for rank in range(num_workers)]

    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Group.execute`; workers run one after the other."""
        return [function(context, *arguments) for context in self._open()]

    def run(self, function: Callable[..., Collective], *arguments: Any) -> list[Any]:
        """See `Group.run`; each round advances every worker to its next `yield`."""
        generators = [function(context, *arguments) for context in self._open()]
        answers: list[Any] = [None] * self.num_workers
        under_way = _UnderWay(self._compression)
        while True:
            given: list[Any] = []
            results: list[Any] = []
            for generator, answer in zip(generators, answers, strict=True):
                try:
                    given.append(generator.send(answer))
                except StopIteration as stop:
                    results.append(stop.value)
            if not given:
                return results
            if results:
                raise ClusterError(
                    f"{len(results)} of {self.num_workers} workers finished while the others wait "
                    f"for {_name(given[0])}; every worker must take the same number of steps"
                )
            answers = under_way.answers(given)

    def shutdown(self) -> None:
        """Forget what the workers kept."""
        self._contexts = []

    def _open(self) -> list[WorkerContext]:
        if not self._contexts:
            raise ClusterError("the worker group is shut down; create a new one")
        return self._contexts


class _UnderWay:
    """What was started in one run: its answers are there at once, and kept until asked for."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression
        self._kept: dict[int, list[Any]] = {}
        self._started = 0

    def answers(self, given: list[Any]) -> list[Any]:
        """Return what each worker is sent for what it yielded."""
        waiting = [one for one in given if one is not None]
        if not waiting:
            return given
        if len(waiting) < len(given):
            raise ClusterError(
                f"{len(waiting)} of {len(given)} workers ask for {_name(waiting[0])} while the "
                "others take turns; every worker must take the same steps"
            )
        if all(isinstance(one, Handle) for one in given):
            return self._take(given)
        if all(isinstance(one, Start) for one in given):
            self._started += 1
            requests = [as_request(one.request) for one in given]
            self._kept[self._started] = self._compute(requests)
            return [Handle(self._started)] * len(given)
        if any(isinstance(one, Handle | Start) for one in given):
            raise _uneven([_name(one) for one in given])
        return self._compute([as_request(one) for one in given])

    def _take(self, handles: list[Handle]) -> list[Any]:
        numbers = {handle.number for handle in handles}
        if len(numbers) > 1:
            raise _uneven([_name(handle) for handle in handles])
        (number,) = numbers
        if number not in self._kept:
            raise unknown_handle(number)
        return self._kept.pop(number)

    def _compute(self, requests: list[Request]) -> list[Any]:
        words = [describe(request) for request in requests]
        if len(set(words)) > 1:
            raise _uneven(words)
        return answer_of(requests, self._compression)


def _name(given: Any) -> str:
    if isinstance(given, Handle):
        return f"the answer of request {given.number}"
    if isinstance(given, Start):
        return f"the start of {as_request(given.request).name}"
    return as_request(given).name


def _uneven(words: list[str]) -> ClusterError:
    other = next(rank for rank, word in enumerate(words) if word != words[0])
    return ClusterError(
        f"worker 0 asks for {words[0]}, worker {other} for {words[other]}; every worker must take "
        "the same steps"
    )


def unknown_handle(number: int) -> ClusterError:
    """Return the error of a handle that cannot be waited for."""
    return ClusterError(
        f"request {number} is not under way: a handle is good for one wait, in the run in which "
        "Start gave it"
    )
