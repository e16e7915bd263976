"""Batches as a stream: what a source of them offers, and reading ahead of whoever uses them."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

from weiml.features import Batch

__all__ = ["BatchSource", "read_ahead"]

T = TypeVar("T")
_POLL_S = 0.1  # how often a reader that nobody takes from looks whether it is still wanted


@runtime_checkable
class BatchSource(Protocol):
    """Examples that can be read again and again, in every process: `BatchDataset`, `ParquetKeys`.

    It can be pickled.
    """

    @property
    def num_examples(self) -> int:
        """How many examples there are."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the sparse slots."""

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns."""

    def iter_batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        worker: int = 0,
        num_workers: int = 1,
    ) -> Iterator[Batch]:
        """Yield a worker's batches; see `BatchDataset.iter_batches`."""


def read_ahead(items: Iterable[T], *, depth: int = 2) -> Iterator[T]:
    """Yield `items`, taken by a thread of their own up to `depth` ahead.

    What reading them raises is raised here, in their order. The thread ends when all are read or
    the iterator is closed or dropped.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    unwanted = threading.Event()
    reader = threading.Thread(target=_read, args=(items, waiting, unwanted), daemon=True)
    reader.start()
    taken = _take(waiting, unwanted, reader)
    weakref.finalize(taken, unwanted.set)  # a generator that nobody began has no `finally`
    return taken


def _take(
    waiting: queue.Queue[tuple[bool, Any]], unwanted: threading.Event, reader: threading.Thread
) -> Iterator[Any]:
    try:
        while True:
            more, item = waiting.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        unwanted.set()
        if reader is not threading.current_thread():  # which may be the one to collect garbage
            reader.join()


def _read(
    items: Iterable[T], waiting: queue.Queue[tuple[bool, Any]], unwanted: threading.Event
) -> None:
    def put(entry: tuple[bool, Any]) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(entry, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    try:
        for item in items:
            if not put((True, item)):
                return
    except BaseException as error:
        put((False, error))
    else:
        put((False, None))
