"""Results come in order, no more are worked on than needed, and errors come in their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from weiml.data.ordered import map_ordered
from weiml.errors import ConfigError


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_keep_the_order(threads: int) -> None:
    assert list(map_ordered(lambda x: x * x, range(50), threads=threads)) == [
        x * x for x in range(50)
    ]


def test_two_items_are_worked_on_at_once() -> None:
    both = threading.Barrier(2, timeout=20)

    def wait(_: int) -> bool:
        both.wait()
        return True

    assert all(map_ordered(wait, range(4), threads=2))


@pytest.mark.parametrize("threads", [1, 2])
def test_items_are_taken_only_as_needed(threads: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    results = map_ordered(lambda x: x, items(), threads=threads)
    for _ in range(10):
        next(results)
    assert len(taken) <= 10 + threads + 1
    results.close() if hasattr(results, "close") else None


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_after_what_was_before_it(threads: int) -> None:
    def invert(x: int) -> float:
        return 1 / (x - 3)

    results = map_ordered(invert, range(10), threads=threads)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_thread_is_refused() -> None:
    with pytest.raises(ConfigError, match="threads"):
        map_ordered(str, [1], threads=0)
