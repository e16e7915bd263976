"""Reading ahead changes neither the order nor what goes wrong, and leaves no thread behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.conftest import make_batch
from weiml.data import BatchDataset, BatchSource, read_ahead, write_batches


def test_all_items_come_in_order() -> None:
    assert list(read_ahead(range(100))) == list(range(100))
    assert list(read_ahead([], depth=1)) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is broken")

    ahead = read_ahead(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="the third is broken"):
        next(ahead)


def test_items_are_read_while_others_are_used_but_not_too_many() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(50):
            taken.append(i)
            yield i

    ahead = read_ahead(items(), depth=3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(taken) == 5  # one in use, three waiting, one that does not fit yet


def test_closing_ends_the_reading() -> None:
    before = threading.active_count()
    ahead = read_ahead(iter(int, 1))  # without end
    next(ahead)
    assert threading.active_count() == before + 1
    ahead.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_dropping_it_before_the_first_item_ends_the_reading() -> None:
    before = set(threading.enumerate())
    ahead = read_ahead(iter(int, 1))  # without end
    (reader,) = set(threading.enumerate()) - before
    ahead.close()  # type: ignore[attr-defined]
    del ahead
    reader.join(10)
    assert not reader.is_alive()


def test_a_dataset_is_a_source(tmp_path: Path) -> None:
    dataset: BatchDataset = write_batches([make_batch(3)], tmp_path / "set")
    assert isinstance(dataset, BatchSource)
