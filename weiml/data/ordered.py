"""Work spread over threads with its results in order, and never much more than is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from weiml.errors import ConfigError

__all__ = ["map_ordered"]

T = TypeVar("T")
R = TypeVar("R")


def map_ordered(function: Callable[[T], R], items: Iterable[T], *, threads: int) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order, computed by `threads` threads.

    Items are taken in the caller's thread, at most ``threads + 1`` ahead of the results, so that
    memory is bounded. It pays where `function` lets go of the interpreter's lock. With one thread
    there is none but the caller's. What an item raises is raised here, in its turn.

    Raises:
        ConfigError: `threads` is less than 1.
    """
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    return map(function, items) if threads == 1 else _spread(function, items, threads)


def _spread(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
