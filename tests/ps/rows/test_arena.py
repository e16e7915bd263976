"""Extents of memory: apart from each other, zero, and given back when they are freed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.ps.rows.test_memory import add_one, resident, sums
from weiml.ps.rows.arena import Arena
from weiml.ps.rows.memory import HUGE_PAGE


def sizes(*given: int) -> np.ndarray:
    return np.array(given, np.int64)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(8, 200_000), min_size=1, max_size=20), st.randoms()),
        max_size=12,
    )
)
def test_extents_are_zero_aligned_and_apart(steps: list) -> None:
    arena = Arena()
    alive: list[tuple[int, int]] = []
    for wanted, random in steps:
        addresses = arena.allocate(sizes(*wanted))
        assert (addresses % 64 == 0).all()
        for address, size in zip(addresses.tolist(), wanted, strict=True):
            assert sums(address, size // 8)[0] == 0
            add_one(address, size // 8)
        alive += zip(addresses.tolist(), wanted, strict=True)
        ordered = sorted(alive)
        for (address, size), (following, _) in pairwise(ordered):
            assert address + size <= following
        random.shuffle(alive)
        gone, alive = alive[::2], alive[1::2]
        arena.free(sizes(*[a for a, _ in gone]), sizes(*[s for _, s in gone]))
        assert arena.nbytes == sum(-(-size // 64) * 64 for _, size in alive)
        for address, size in alive:  # giving the others back has not touched them
            assert sums(address, size // 8)[0] == size // 8


def test_what_is_freed_leaves_memory_in_whatever_order(rng: np.random.Generator) -> None:
    before = resident()
    arena = Arena()
    wanted = np.full(400, HUGE_PAGE // 4, np.int64)
    addresses = arena.allocate(wanted)
    for address in addresses:
        add_one(address, HUGE_PAGE // 32)
    assert resident() - before > 98 * HUGE_PAGE
    half = rng.permutation(200)  # the first 200 share no page with the others
    for part in np.array_split(half, 10):
        arena.free(addresses[part], wanted[part])
    assert resident() - before < 52 * HUGE_PAGE
    arena.free(addresses[200:], wanted[200:])
    assert resident() - before < 3 * HUGE_PAGE
    assert arena.nbytes == 0


def test_memory_stays_in_bounds_as_extents_grow_one_by_one() -> None:
    before = resident()
    arena = Arena()
    held = np.zeros(64, np.int64)
    size = np.zeros(64, np.int64)
    for turn in range(64 * 30):
        i = turn % 64
        grown = sizes(int(100_000 * 1.15 ** (turn // 64)))
        address = arena.allocate(grown)
        add_one(int(address[0]), int(grown[0]) // 8)
        if size[i]:
            arena.free(held[i : i + 1], size[i : i + 1])
        held[i], size[i] = address[0], grown[0]
    assert resident() - before < 1.1 * arena.nbytes + 4 * HUGE_PAGE
    assert arena.nbytes >= size.sum()
