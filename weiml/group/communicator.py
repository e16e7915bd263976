"""One worker's way to the others: requests answered now, or by a thread while it computes.

One thread at most is at work on the process group, and requests go out in the order in which they
were made: so the workers, who make the same requests, agree on what travels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from weiml.errors import ClusterError
from weiml.group.base import Collective
from weiml.group.collectives import (
    AllGather,
    AllReduce,
    Broadcast,
    Compression,
    Handle,
    Request,
    Start,
    answer_of,
    as_request,
    check_root,
    describe,
)
from weiml.group.devices import SideStream
from weiml.group.exchange import Exchange
from weiml.group.local import unknown_handle
from weiml.group.packing import from_bytes, pack, to_bytes, unpack

__all__ = ["CommunicationError", "Communicator", "drive"]

T = TypeVar("T")

_DIGEST_BYTES = 16
_WORD_BYTES = 240
_END = "the end of its function"


class CommunicationError(ClusterError):
    """The others could not be reached: one of them died, or did not come in time."""


@dataclass(frozen=True)
class _Job:
    """A request with what it sends, copied."""

    request: Request
    packed: Any
    mark: Any


class Communicator:
    """Answers what one worker's functions yield. Used by one thread.

    Args:
        rank: of this worker.
        num_workers: of the group.
        exchange: the process group; None: the group has none.
        control: another one on gloo, to compare what is asked for; None: not compared.
        device: where arrays are reduced.
        compression: where requests leave it open.
        timeout_s: of the process group, for messages.
    """

    def __init__(
        self,
        rank: int,
        num_workers: int,
        exchange: Exchange | None = None,
        *,
        control: Exchange | None = None,
        device: str = "cpu",
        compression: Compression = "none",
        timeout_s: float = 60.0,
    ) -> None:
        self._rank = rank
        self._n = num_workers
        self._exchange = exchange
        self._control = control
        self._device = device
        self._compression: Compression = compression
        self._timeout_s = timeout_s
        self._side = SideStream(device)
        self._thread = ThreadPoolExecutor(1, "weiml-group", initializer=self._enter)
        self._under_way: dict[int, Future[Any]] = {}
        self._last: Future[Any] | None = None
        self._started = 0
        self._done = 0

    def answer(self, given: Any) -> Any:
        """Return what a worker is sent for what it yielded."""
        if given is None:
            return None
        if isinstance(given, Start):
            return self.start(given.request)
        if isinstance(given, Handle):
            return self.wait(given)
        job = self._job(as_request(given))
        if self._last is None or self._last.done():
            return self._guarded(job)
        self._last = self._thread.submit(self._guarded, job)
        return self._last.result()

    def start(self, request: Any) -> Handle:
        """Begin a request and return at once."""
        self._started += 1
        self._last = self._thread.submit(self._guarded, self._job(as_request(request)))
        self._under_way[self._started] = self._last
        return Handle(self._started)

    def wait(self, handle: Handle) -> Any:
        """Return the answer of a request under way."""
        if handle.number not in self._under_way:
            raise unknown_handle(handle.number)
        return self._under_way.pop(handle.number).result()

    def end_run(self) -> None:
        """Wait for what is under way, and see that the others have ended too."""
        for future in self._under_way.values():
            future.result()
        self._under_way.clear()
        self._started = 0
        self._reach(lambda: self._compare(_END))

    def _enter(self) -> None:
        if self._device != "cpu":
            import torch

            torch.cuda.set_device(self._device)  # which each thread has of its own

    def _job(self, request: Request) -> _Job:
        """Copy what a request sends, on the caller's stream."""
        if self._n == 1:
            return _Job(request, answer_of([request])[0], None)
        if self._exchange is None:
            raise ClusterError(
                "the worker group has backend 'none' and cannot average arrays; use 'auto'"
            )
        packed: Any = None
        if isinstance(request, AllReduce):
            packed = pack(request.listed, self._device, self._exchange.multiple)
        elif isinstance(request, AllGather | Broadcast):
            packed = to_bytes(request.array).to(self._device)
        if isinstance(request, Broadcast):
            check_root(request.root, self._n)
        return _Job(request, packed, self._side.mark())

    def _guarded(self, job: _Job) -> Any:
        if self._n == 1:
            return job.packed
        return self._reach(lambda: self._perform(job))

    def _reach(self, action: Callable[[], T]) -> T:
        """Do something with the others; say so if they cannot be reached."""
        try:
            return action()
        except RuntimeError as error:
            if isinstance(error, ClusterError):
                raise
            raise CommunicationError(
                f"worker {self._rank} could not reach the others in its collective "
                f"{self._done + 1} (collective_timeout_s = {self._timeout_s:g}): {error}"
            ) from error

    def _perform(self, job: _Job) -> Any:
        request, exchange = job.request, self._exchange
        assert exchange is not None
        self._compare(describe(request))
        flats = [part.flat for part in job.packed] if isinstance(request, AllReduce) else []
        with self._side.after(job.mark, flats):
            if isinstance(request, AllReduce):
                how = request.compression or self._compression
                for flat in flats:
                    exchange.reduce(flat, request.op, how)
                listed = unpack(job.packed, request.listed)
                answer = listed[0] if request.single else listed
            elif isinstance(request, AllGather):
                rows = exchange.gather(job.packed)
                answer = [from_bytes(row, request.array) for row in rows]
            elif isinstance(request, Broadcast):
                exchange.broadcast(job.packed, request.root)
                answer = from_bytes(job.packed, request.array)
            else:
                answer = None
                if self._control is None:
                    exchange.gather(_tensor_of(b"\0", 1).to(self._device))
            self._side.synchronize()
        self._done += 1
        return answer

    def _compare(self, word: str) -> None:
        """Raise ClusterError unless all workers say the same word."""
        if self._control is None:
            return
        digest = hashlib.blake2b(word.encode(), digest_size=_DIGEST_BYTES).digest()
        frame = digest + word.encode()[:_WORD_BYTES]
        found = self._control.gather(_tensor_of(frame, _DIGEST_BYTES + _WORD_BYTES)).numpy()
        heads = [row[:_DIGEST_BYTES].tobytes() for row in found]
        other = next((rank for rank, head in enumerate(heads) if head != heads[0]), None)
        if other is None:
            return
        words = [
            row[_DIGEST_BYTES:].tobytes().rstrip(b"\0").decode(errors="replace") for row in found
        ]
        raise ClusterError(
            f"worker 0 asks for {words[0]}, worker {other} for {words[other]}; every worker must "
            "take the same steps"
        )


def _tensor_of(content: bytes, size: int) -> Any:
    """Return bytes as a tensor of uint8 of shape (size,), zeros at its end."""
    import torch

    return torch.frombuffer(bytearray(content.ljust(size, b"\0")), dtype=torch.uint8)


def drive(generator: Collective, communicator: Communicator) -> Any:
    """Run a collective function of this worker to its end; return its result."""
    answer: Any = None
    while True:
        try:
            given = generator.send(answer)
        except StopIteration as stop:
            communicator.end_run()
            return stop.value
        answer = communicator.answer(given)
