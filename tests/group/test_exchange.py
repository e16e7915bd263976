"""Collectives of tensors, by every way that a backend may need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.group import WorkerContext, WorkerGroup
from weiml.group.collectives import reduce_in_rank_order

LENGTHS = (0, 3, 300, 30_000)
WAYS = [("gloo", "none"), ("gloo", "bfloat16"), ("nccl", "none"), ("nccl", "float16")]


def make_functions() -> dict[str, Any]:
    def draw(rank: int, length: int) -> np.ndarray:
        return np.random.default_rng((rank, length)).standard_normal(length).astype(np.float32)

    def reduced(
        context: WorkerContext, backend: str, reduction: str, compression: str, op: str
    ) -> list[np.ndarray]:
        """Reduce on the group's gloo as `backend` would be asked to."""
        import torch

        from weiml.group.exchange import Exchange

        key = f"{backend} {reduction}"
        if key not in context.memory:  # used again, as in training
            context.memory[key] = Exchange(
                context.num_workers,
                backend,
                reduction=reduction,  # type: ignore[arg-type]
                bucket_bytes=4096,
            )
        found = []
        for length in (0, 3, 300, 30_000):
            tensor = torch.from_numpy(draw(context.rank, length))
            context.memory[key].reduce(tensor, op, compression)
            found.append(tensor.numpy())
        return found

    def gathered(context: WorkerContext, backend: str) -> list[list[float]]:
        import torch

        from weiml.group.exchange import Exchange

        mine = torch.arange(2.0) + 10 * context.rank
        rows: list[list[float]] = Exchange(context.num_workers, backend).gather(mine).tolist()
        return rows

    return {f.__name__: f for f in (draw, reduced, gathered)}


FUNCTIONS = make_functions()


@pytest.fixture(scope="module")
def group(ray_session: None) -> Any:
    with WorkerGroup.create(3, cpus_per_worker=0.5) as group:
        yield group


def arrays(length: int) -> list[np.ndarray]:
    return [FUNCTIONS["draw"](rank, length) for rank in range(3)]


@pytest.mark.parametrize(("backend", "compression"), WAYS)
@pytest.mark.parametrize("op", ["mean", "sum", "max"])
def test_ordered_reductions_have_the_bits_of_the_reference(
    group: WorkerGroup, backend: str, compression: Any, op: Any
) -> None:
    for found in group.execute(FUNCTIONS["reduced"], backend, "ordered", compression, op):
        for length, array in zip(LENGTHS, found, strict=True):
            expected = reduce_in_rank_order(arrays(length), op, compression)
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("op", ["mean", "sum", "max"])
def test_ring_reductions_are_close_to_the_reference(group: WorkerGroup, op: Any) -> None:
    for found in group.execute(FUNCTIONS["reduced"], "gloo", "ring", "none", op):
        for length, array in zip(LENGTHS, found, strict=True):
            expected = reduce_in_rank_order(arrays(length), op)
            np.testing.assert_allclose(array, expected, atol=1e-6)


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_gathered_rows_are_in_rank_order(group: WorkerGroup, backend: str) -> None:
    expected = [[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]]
    assert group.execute(FUNCTIONS["gathered"], backend) == [expected] * 3
