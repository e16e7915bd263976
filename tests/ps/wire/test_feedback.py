"""Nothing is lost by compression: what is sent adds up to what was given."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.wire import Codec, Compressor, EncodedPush, WireConfig, decode

LOSSY: tuple[Codec, ...] = ("float16", "bfloat16", "float8", "int8")


def columns(push: EncodedPush) -> np.ndarray:
    """All that a push carries, (m, values + counts + squares) float64."""
    parts = [part for part in (push.values, push.counts, push.squares) if part is not None]
    return np.concatenate([decode(part) for part in parts], axis=1).astype(np.float64)


def left(push: str, size: float) -> float:
    """What may be missing after a flush of pushes that come to `size` in magnitude."""
    if push == "float32":
        return 1e-6 * size
    return (
        size
        * {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float8": 2.0**-2, "int8": 1.0}[push]
        / 128
    )


class Ledger:
    """What was given and what was sent, summed by key."""

    def __init__(self, width: int) -> None:
        self.given: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(width))
        self.sent: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(width))

    def give(self, keys: np.ndarray, rows: np.ndarray) -> None:
        for key, row in zip(keys.tolist(), rows.astype(np.float64), strict=True):
            self.given[key] += row

    def send(self, push: EncodedPush) -> None:
        for key, row in zip(push.keys.tolist(), columns(push), strict=True):
            self.sent[key] += row

    @property
    def missing(self) -> float:
        """Sum of the magnitudes of what was given and not sent."""
        both = self.given.keys() | self.sent.keys()
        return float(sum(np.abs(self.given[key] - self.sent[key]).sum() for key in both))


def batch(rng: np.random.Generator, size: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of 60 keys, repeated ones among them, and rows of very different sizes."""
    keys = rng.integers(0, 60, size, dtype=np.uint64) * np.uint64(2**64 // 59)
    rows = rng.normal(size=(size, dim)) * 10.0 ** rng.integers(-3, 3, (size, 1))
    return keys, rows.astype(np.float32)


@pytest.mark.parametrize("push", ["float32", *LOSSY])
@pytest.mark.parametrize("what", ["gradients", "differences"])
@given(
    seed=st.integers(0, 2**32),
    fraction=st.sampled_from([1.0, 0.7, 0.1]),
    sizes=st.lists(st.integers(0, 40), max_size=8),
    dim=st.integers(1, 6),
)
def test_all_that_was_given_has_been_sent_after_a_flush(
    push: Codec, what: str, seed: int, fraction: float, sizes: list[int], dim: int
) -> None:
    rng = np.random.default_rng(seed)
    compressor = Compressor(WireConfig(push=push, push_fraction=fraction))
    ledger = Ledger(dim)
    for size in sizes:
        keys, rows = batch(rng, size, dim)
        ledger.give(keys, rows)
        for part in compressor.compress("t", what, keys, rows):  # type: ignore[arg-type]
            ledger.send(part)
    for table, kind, part in compressor.flush():
        assert (table, kind) == ("t", what)
        ledger.send(part)
    size = sum(np.abs(row).sum() for row in ledger.given.values())
    assert ledger.missing <= left(push, size) + 1e-5 * size
    assert list(compressor.flush()) == []
    assert compressor.num_rows == 0


@pytest.mark.parametrize("push", LOSSY)
@given(seed=st.integers(0, 2**32))
def test_counts_and_squares_are_kept_with_their_gradients(push: Codec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    compressor = Compressor(WireConfig(push=push, push_fraction=0.4))
    ledger = Ledger(5)
    for _ in range(6):
        keys, rows = batch(rng, 20, 2)
        counts = rng.integers(1, 1000, 20).astype(np.float32)
        ledger.give(keys, np.concatenate([rows, counts[:, None], rows * rows], axis=1))
        parts = compressor.compress("t", "gradients", keys, rows, counts, rows * rows)
        for part in parts:
            assert part.counts is not None
            assert part.squares is not None
            # A row that is sent stands for an example at least, and for no negative square.
            assert (decode(part.counts) >= 1).all()
            assert (decode(part.squares) >= 0).all()
            ledger.send(part)
    for _, _, part in compressor.flush():
        ledger.send(part)
    size = sum(np.abs(row).sum() for row in ledger.given.values())
    assert ledger.missing <= left("float8" if push == "int8" else push, size) + 1e-5 * size


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("push", ["float32", *LOSSY])
def test_in_too_little_room_only_rests_of_rounding_are_dropped_and_they_are_counted(
    push: Codec, fraction: float, rng: np.random.Generator
) -> None:
    config = WireConfig(push=push, push_fraction=fraction, feedback_rows=7)
    compressor = Compressor(config)
    ledger = Ledger(3)
    late = 0
    for _ in range(60):
        keys, rows = batch(rng, 30, 3)
        ledger.give(keys, rows)
        pushes = compressor.compress("t", "gradients", keys, rows)
        late += len(pushes) - 1
        for part in pushes:
            ledger.send(part)
        assert compressor.num_rows <= 7
    for _, _, part in compressor.flush():
        ledger.send(part)
    size = sum(np.abs(row).sum() for row in ledger.given.values())
    assert ledger.missing <= compressor.dropped + left(push, size) + 1e-5 * size
    assert (late > 0) == (fraction < 1)
    assert (compressor.dropped > 0) == (push != "float32")


@pytest.mark.parametrize("push", ["float16", "float8"])
def test_what_was_too_large_to_be_sent_is_held_back_not_dropped(push: Codec) -> None:
    compressor = Compressor(WireConfig(push=push, feedback_rows=1))
    large = np.array([[1e6, 1.0]], np.float32)
    total = np.zeros(2)
    for key in range(3):
        for part in compressor.compress("t", "gradients", np.array([key], np.uint64), large):
            total += columns(part).sum(axis=0)
    for _, _, part in compressor.flush():
        total += columns(part).sum(axis=0)
    assert total.tolist() == [3e6, 3.0]
    assert compressor.dropped == 0


def test_without_room_for_rests_rows_are_rounded_and_nothing_is_kept() -> None:
    compressor = Compressor(WireConfig(push="bfloat16", feedback_rows=0))
    keys, rows = np.arange(3, dtype=np.uint64), np.full((3, 2), 1 / 3, np.float32)
    [push] = compressor.compress("t", "gradients", keys, rows)
    assert np.allclose(decode(push.values), rows, rtol=2**-8)
    assert list(compressor.flush()) == []


def test_the_largest_rows_are_sent_and_the_others_follow_when_they_have_grown() -> None:
    compressor = Compressor(WireConfig(push_fraction=0.5))
    keys = np.array([10, 11, 12, 13], np.uint64)
    rows = np.array([[1, 0], [0, -5], [3, 0], [0, 0.5]], np.float32)
    [first] = compressor.compress("t", "gradients", keys, rows)
    assert first.keys.tolist() == [11, 12]
    assert first.rows is not None
    assert first.rows.tolist() == [1, 2]
    again = np.array([[3, 0], [0, -2], [2, 0], [0, 0.5]], np.float32)
    [second] = compressor.compress("t", "gradients", keys, again)
    assert second.keys.tolist() == [10, 11]  # 11 before 12, which is as large
    assert decode(second.values).tolist() == [[4, 0], [0, -2]]
    [(_, _, rest)] = compressor.flush()
    assert dict(zip(rest.keys.tolist(), decode(rest.values).tolist(), strict=True)) == {
        12: [2, 0],
        13: [0, 1],
    }


@pytest.mark.parametrize("fraction", [0.01, 0.3, 1.0])
def test_the_share_asked_for_is_sent_even_of_equal_rows(fraction: float) -> None:
    compressor = Compressor(WireConfig(push_fraction=fraction))
    keys = np.arange(50, dtype=np.uint64)
    [push] = compressor.compress("t", "gradients", keys, np.ones((50, 1), np.float32))
    assert len(push.keys) == max(1, round(50 * fraction))


def test_what_is_held_and_what_was_sent_make_the_whole() -> None:
    compressor = Compressor(WireConfig(push="float8", push_fraction=0.5))
    keys = np.arange(8, dtype=np.uint64)
    rows = np.linspace(-3, 4, 16, dtype=np.float32).reshape(8, 2)
    assert compressor.held("t", "differences", keys) is None
    [push] = compressor.compress("t", "differences", keys, rows)
    assert push.rows is not None
    held = compressor.held("t", "differences", keys)
    assert held is not None
    held[push.rows] += decode(push.values)
    assert np.array_equal(held, rows)
    assert compressor.held("other", "differences", keys) is None
    assert compressor.held("t", "gradients", keys) is None


@pytest.mark.parametrize("push", ["float16", "bfloat16", "float8", "int8"])
def test_a_sum_of_squares_never_falls_below_zero_on_the_way(push: Codec) -> None:
    rng = np.random.default_rng(0)
    compressor = Compressor(WireConfig(push=push))
    keys = np.arange(20, dtype=np.uint64)
    total = np.zeros((20, 2))
    for _ in range(50):
        squares = (rng.normal(size=(20, 2)) * 10.0 ** rng.integers(-6, 3, (20, 2))) ** 2
        [part] = compressor.compress("t", "differences", keys, squares.astype(np.float32))
        assert (decode(part.values) >= 0).all()
        total += decode(part.values)
        held = compressor.held("t", "differences", keys)
        assert held is None or (held >= 0).all()


def test_pushes_of_several_tables_and_kinds_do_not_mix() -> None:
    compressor = Compressor(WireConfig(push="bfloat16"))
    keys = np.array([1], np.uint64)
    third = np.full((1, 2), 1 / 3, np.float32)
    compressor.compress("a", "gradients", keys, third)
    [push] = compressor.compress("b", "gradients", keys, np.ones((1, 2), np.float32))
    assert decode(push.values).tolist() == [[1, 1]]
    [push] = compressor.compress("a", "differences", keys, np.ones((1, 3), np.float32))
    assert decode(push.values).tolist() == [[1, 1, 1]]
    assert [(table, what) for table, what, _ in compressor.flush()] == [("a", "gradients")]


def test_the_arrays_given_stay_as_they_were() -> None:
    compressor = Compressor(WireConfig(push="bfloat16", push_fraction=0.5))
    keys = np.arange(10, dtype=np.uint64)
    rows = np.linspace(0, 1, 20, dtype=np.float32).reshape(10, 2)
    before = rows.copy()
    for _ in range(2):
        compressor.compress("t", "gradients", keys, rows)
    assert np.array_equal(rows, before)
