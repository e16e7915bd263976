"""Loads, stores, copies and views over raw memory; regions that give pages back."""

from __future__ import annotations

import mmap
import resource
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.rows.memory import (
    HUGE_PAGE,
    Region,
    address_of,
    call_block,
    floats,
    integers,
    load_f32,
    load_u32,
    load_u64,
    move_bytes,
    prefetch,
    store_f32,
    store_u32,
    store_u64,
    words,
)


@numba.njit
def copy_u64(target: int, source: int, n: int) -> None:
    for i in range(n):
        store_u64(target + 8 * i, load_u64(source + 8 * i))


@numba.njit
def copy_u32(target: int, source: int, n: int) -> None:
    for i in range(n):
        store_u32(target + 4 * i, load_u32(source + 4 * i))


@numba.njit
def copy_f32(target: int, source: int, n: int) -> None:
    for i in range(n):
        store_f32(target + 4 * i, load_f32(source + 4 * i))


@numba.njit
def move(target: int, source: int, size: int) -> None:
    move_bytes(target, source, size)


@numba.njit
def sums(at: int, n: int) -> tuple[Any, Any, Any]:
    prefetch(at)
    prefetch(-1)  # never faults
    return integers(at, n).sum(), np.int64(words(at, 2 * n).max()), floats(at, 2 * n)[1]


@numba.njit
def add_one(at: int, n: int) -> None:
    view = integers(at, n)
    for i in range(n):
        view[i] += 1


@numba.cfunc("void(int64, int64, int64, int64)")
def tell(addresses: int, size: int, values: int, parameters: int) -> None:
    view = integers(addresses, size)
    for i in range(size):
        view[i] = values - parameters + i


@numba.njit
def call(function: int, addresses: int, size: int) -> None:
    call_block(function, addresses, size, 50, 8)


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    return int(statm.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("shift", [0, 4])
def test_values_pass_through_memory_unchanged(shift: int, rng: np.random.Generator) -> None:
    source = rng.integers(0, 256, 804, np.uint8)
    for copy, size in ((copy_u64, 8), (copy_u32, 4), (copy_f32, 4)):
        target = np.zeros(804, np.uint8)
        copy(address_of(target) + shift, address_of(source) + shift, 800 // size)
        assert (target[shift : 800 + shift] == source[shift : 800 + shift]).all()
        assert not target[:shift].any()
        assert not target[800 + shift :].any()


@given(st.integers(0, 64), st.integers(0, 64), st.integers(0, 64))
def test_bytes_move_between_ranges_that_overlap(target: int, source: int, size: int) -> None:
    memory = np.arange(128, dtype=np.uint8)
    expected = memory.copy()
    expected[target : target + size] = memory[source : source + size].copy()
    move(address_of(memory) + target, address_of(memory) + source, size)
    assert (memory == expected).all()


def test_views_read_and_write_the_memory_itself() -> None:
    memory = np.arange(5, dtype=np.int64)
    memory[0] = np.array([7, 1.5], np.float32).view(np.int64)[0]
    total, largest, second = sums(address_of(memory), 5)
    assert total == memory.sum()
    assert largest == memory.view(np.uint32).max()
    assert second == 1.5
    add_one(address_of(memory), 5)
    assert memory[1:].tolist() == [2, 3, 4, 5]


def test_a_compiled_function_is_called_by_its_address() -> None:
    memory = np.zeros(4, np.int64)
    call(tell.address, address_of(memory), 4)
    assert memory.tolist() == [42, 43, 44, 45]


def test_only_contiguous_arrays_have_one_address() -> None:
    with pytest.raises(AssertionError, match="contiguous"):
        address_of(np.zeros((4, 4))[:, 1])


def test_a_region_is_zero_aligned_and_not_resident_until_written() -> None:
    before = resident()
    region = Region(64 * HUGE_PAGE)
    assert region.address % HUGE_PAGE == 0
    assert resident() - before < 2 * HUGE_PAGE
    add_one(region.address, 32 * HUGE_PAGE // 8)
    assert resident() - before > 31 * HUGE_PAGE
    assert sums(region.address + 32 * HUGE_PAGE, 100)[0] == 0


def test_released_pages_leave_memory_and_read_zero_again() -> None:
    region = Region(16 * HUGE_PAGE)
    n = region.nbytes // 8
    add_one(region.address, n)
    before = resident()
    page = mmap.PAGESIZE
    region.release(page + 8, region.nbytes - 8)  # the pages cut in two at both ends stay
    assert before - resident() > 14 * HUGE_PAGE
    kept = (2 * page + page) // 8
    assert sums(region.address, n)[0] == kept
    region.release(8, 16)  # no whole page
    assert sums(region.address, n)[0] == kept


def test_a_region_is_freed_with_its_object() -> None:
    before = resident()
    for _ in range(8):
        region = Region(16 * HUGE_PAGE)
        add_one(region.address, region.nbytes // 8)
        del region
    assert resident() - before < 20 * HUGE_PAGE


def test_reserving_costs_nothing_where_the_system_lets_it() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems count what is reserved")
    assert Region(1 << 40).nbytes == 1 << 40
