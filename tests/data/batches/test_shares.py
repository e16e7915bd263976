"""Workers' shares part the examples, whichever way; shares of steps are together a bigger batch."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.conftest import make_batch
from weiml.data import BatchDataset, write_batches
from weiml.data.batches.shares import Share, Split
from weiml.errors import ConfigError


@given(
    num_examples=st.integers(0, 60),
    num_workers=st.integers(1, 5),
    batch_size=st.integers(1, 9),
    split=st.sampled_from(["ranges", "steps"]),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_shares_part_the_examples_however_they_are_asked_for(
    num_examples: int, num_workers: int, batch_size: int, split: Split, cuts: list[int]
) -> None:
    taken = []
    edges = sorted({0, num_examples, *(min(cut, num_examples) for cut in cuts)})
    for worker in range(num_workers):
        share = Share(num_examples, worker, num_workers, batch_size, split)
        own = [at for first, last in share.within(0, num_examples) for at in range(first, last)]
        assert len(own) == num_examples // num_workers
        assert own == sorted(own)
        pieces = [p for low, high in pairwise(edges) for p in share.within(low, high)]
        assert [at for first, last in pieces for at in range(first, last)] == own
        taken += own
    assert sorted(taken) == list(dict.fromkeys(sorted(taken)))
    assert set(range(num_examples)) - set(taken) <= set(range(num_examples - num_workers + 1, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares") / "set"
    write_batches([make_batch(103, 1)], folder, examples_per_part=17)
    return folder


def times_of(dataset: BatchDataset, size: int, **options: Any) -> list[list[int]]:
    """Return which examples each batch holds; a batch's first dense column tells."""
    return [batch.dense[:, 0].tolist() for batch in dataset.iter_batches(size, **options)]


@pytest.mark.parametrize("order", [{}, {"seed": 3}, {"seed": 3, "shuffle_parts": 2}])
@pytest.mark.parametrize("workers", [2, 3])
def test_the_batches_of_a_step_are_one_of_a_lone_worker(
    folder: Path, order: dict[str, int], workers: int
) -> None:
    dataset = BatchDataset.open(folder, split="steps")
    whole = times_of(dataset, 8 * workers, **order)
    shares = [
        times_of(dataset, 8, **order, worker=worker, num_workers=workers)
        for worker in range(workers)
    ]
    assert len({len(share) for share in shares}) == 1
    for one, *parts in zip(whole, *shares, strict=True):
        together = [number for part in parts for number in part]
        assert together == one[: len(together)]
        assert len(one) - len(together) < workers
    ranges = times_of(BatchDataset.open(folder), 8, **order, num_workers=workers)
    assert ranges != shares[0]
    assert times_of(dataset, 8, **order, num_workers=workers, split="ranges") == ranges


def test_all_examples_are_read_whatever_the_split(folder: Path) -> None:
    ours, theirs = BatchDataset.open(folder, split="steps").read(), BatchDataset.open(folder).read()
    np.testing.assert_array_equal(ours.dense, theirs.dense)


def test_another_split_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'ranges' or 'steps', got 'halves'"):
        BatchDataset.open(folder, split="halves")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'ranges' or 'steps', got 'halves'"):
        BatchDataset.open(folder).iter_batches(8, split="halves")  # type: ignore[arg-type]
