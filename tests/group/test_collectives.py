"""What each request means: the arithmetic that every transport gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weiml.errors import ConfigError, DataError
from weiml.group import AllGather, AllReduce, Barrier, Broadcast, rank_ordered_mean
from weiml.group.collectives import answer_of, as_request, describe, reduce_in_rank_order

NUMBERS = hnp.arrays(np.float32, 7, elements=st.floats(-8192, 8192, width=32))


def test_mean_is_summed_in_rank_order() -> None:
    arrays = [np.array([value], np.float32) for value in (1e8, 3.0, -1e8, 1.0)]
    total = np.float32(0)
    for array in arrays:
        total = total + array[0]
    assert rank_ordered_mean(arrays)[0] == total / np.float32(4)
    assert rank_ordered_mean(arrays).dtype == np.float32


def test_mean_of_one_array_is_a_copy() -> None:
    array = np.array([1.5, 2.5], np.float32)
    mean = rank_ordered_mean([array])
    mean[0] = 9
    assert array[0] == 1.5


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_reductions_equal_a_float64_reference(arrays: list[np.ndarray]) -> None:
    wide = np.stack(arrays).astype(np.float64)
    limit = 1e-6 * np.abs(wide).sum(0) + 1e-30
    assert (np.abs(reduce_in_rank_order(arrays, "mean") - wide.mean(0)) <= limit).all()
    assert (np.abs(reduce_in_rank_order(arrays, "sum") - wide.sum(0)) <= limit).all()
    np.testing.assert_array_equal(reduce_in_rank_order(arrays, "max"), wide.max(0))


@given(st.lists(NUMBERS, min_size=2, max_size=4), st.sampled_from(["bfloat16", "float16"]))
def test_compressed_numbers_are_rounded_once_each_way_and_added_in_float32(
    arrays: list[np.ndarray], compression: Any
) -> None:
    kind = getattr(torch, compression)
    rounded = [torch.from_numpy(a).to(kind).to(torch.float32) for a in arrays]
    total = rounded[0].clone()
    for part in rounded[1:]:
        total += part
    expected = (total / torch.tensor(float(len(arrays)))).to(kind).to(torch.float32).numpy()
    found = reduce_in_rank_order(arrays, "mean", compression)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_compression_is_close_and_keeps_what_bfloat16_can_hold() -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(1000).astype(np.float32) for _ in range(4)]
    exact = reduce_in_rank_order(arrays, "mean")
    close = reduce_in_rank_order(arrays, "mean", "bfloat16")
    assert 0 < np.abs(close - exact).max() < 0.02
    big = [np.array([1e30], np.float32)] * 2
    assert np.isfinite(reduce_in_rank_order(big, "mean", "bfloat16")).all()
    assert np.isinf(reduce_in_rank_order(big, "mean", "float16")).all()


def test_other_dtypes_are_not_compressed() -> None:
    arrays = [np.array([1 + 2**-40]), np.array([1 + 2**-40])]
    assert reduce_in_rank_order(arrays, "mean", "bfloat16")[0] == 1 + 2**-40


def test_every_worker_gets_arrays_of_its_own() -> None:
    requests = [as_request([np.full(2, rank, np.float32)]) for rank in range(3)]
    answers = answer_of(requests)
    answers[0][0][:] = 99
    assert answers[1][0].tolist() == [1.0, 1.0]


def test_gathered_and_broadcast_arrays_may_be_of_any_dtype() -> None:
    keys = [np.array([2**63 + rank], np.uint64) for rank in range(3)]
    gathered = answer_of([AllGather(key) for key in keys])
    assert [int(one[0]) for one in gathered[1]] == [2**63, 2**63 + 1, 2**63 + 2]
    sent = answer_of([Broadcast(key, root=2) for key in keys])
    assert [int(one[0]) for one in sent] == [2**63 + 2] * 3
    assert answer_of([Barrier()] * 2) == [None, None]


def test_tensors_come_back_as_tensors() -> None:
    mean = answer_of([AllReduce(torch.tensor([1.0])), AllReduce(torch.tensor([3.0]))])
    assert isinstance(mean[0], torch.Tensor)
    assert mean[0].tolist() == [2.0]


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: AllReduce(np.zeros(1), "men"), ConfigError, "did you mean 'mean'"),  # type: ignore[arg-type]
        (
            lambda: AllReduce(np.zeros(1), "mean", "bfloat"),  # type: ignore[arg-type]
            ConfigError,
            "did you mean 'bfloat16'",
        ),
        (lambda: AllReduce(np.zeros(1, np.int64)), DataError, "a mean is of floating-point"),
        (lambda: AllReduce(np.zeros(1, np.uint64)), DataError, "got uint64"),
        (lambda: AllReduce(np.zeros(1), "sum", "float16"), DataError, "takes float32 arrays"),
        (lambda: as_request(3), ConfigError, "a worker yielded int"),
        (lambda: answer_of([Broadcast(np.zeros(1), 2)] * 2), ConfigError, "0 … 1, got 2"),
    ],
)
def test_what_cannot_be_asked_for(build: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build()


def test_a_request_is_described_by_what_must_be_equal() -> None:
    assert describe(as_request(np.zeros((2, 3), np.float32))) == "a mean of float32[2, 3]"
    many = AllReduce([np.zeros(1)] * 6, "sum")
    assert describe(many).startswith("a sum of float64[1], ")
    assert describe(many).endswith("… 6 arrays")
    assert describe(Broadcast(np.zeros(1), 1)) == "a broadcast of float64[1] from worker 1"
    assert describe(Barrier()) == "a barrier"
