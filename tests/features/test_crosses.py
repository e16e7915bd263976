"""Products of slots: stored and block by block, against plain Python."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features import Batch, Cross, CrossGroups, cross_blocks, with_crosses
from weiml.hashing import TypeTag, cross_keys, feature_seed

SLOTS = ("a", "b", "c")
CROSSES = (
    Cross("ab", of=("a", "b")),
    Cross("ba", of=("b", "a")),
    Cross("abc", of=("a", "b", "c")),
    Cross("aa", of=("a", "a")),
    Cross("four", of=("c", "b", "a", "c")),
)
keys_of = st.lists(st.integers(1, 2**64 - 1), max_size=3)
cells_of = st.lists(st.tuples(keys_of, keys_of, keys_of), max_size=7)
crosses_of = st.lists(st.sampled_from(CROSSES), unique=True, max_size=5)


def make(cells: list[Any], valued: bool = False) -> Batch:
    B = len(cells)
    flat = [cell for example in cells for cell in example]
    keys = np.array([key for cell in flat for key in cell], np.uint64)
    return Batch(
        labels=np.zeros((B, 1), np.float32),
        weights=np.ones(B, np.float32),
        dense=np.zeros((B, 0), np.float32),
        keys=keys,
        offsets=np.cumsum([0, *map(len, flat)]).astype(np.int32),
        values=np.linspace(-2, 3, keys.size, dtype=np.float32) if valued else None,
        groups=np.zeros(B, np.uint64),
        items=np.zeros(B, np.uint64),
        times=np.zeros(B, np.int64),
        slots=SLOTS,
        dense_names=(),
    )


def cell_of(batch: Batch, b: int, slot: str) -> list[tuple[int, Any]]:
    cell = b * len(batch.slots) + batch.slots.index(slot)
    own = slice(batch.offsets[cell], batch.offsets[cell + 1])
    values = np.ones(batch.keys.size, np.float32) if batch.values is None else batch.values
    return list(zip(batch.keys[own].tolist(), values[own], strict=True))


def reference(batch: Batch, b: int, cross: Cross) -> list[tuple[int, Any]]:
    found = []
    for combination in itertools.product(*[cell_of(batch, b, member) for member in cross.of]):
        key = np.array([feature_seed(cross.name, TypeTag.CROSS)], np.uint64)
        value = np.float32(1)
        for member, its_value in combination:
            key = cross_keys(key, np.array([member], np.uint64))
            value *= its_value
        found.append((int(key[0]), value))
    return found


@given(cells_of, crosses_of, st.booleans())
def test_stored_products_against_plain_python(
    cells: list[Any], crosses: list[Cross], valued: bool
) -> None:
    batch = make(cells, valued)
    crossed = with_crosses(batch, crosses)
    crossed.validate()
    assert crossed.slots == SLOTS + tuple(cross.name for cross in crosses)
    for b in range(len(batch)):
        for slot in SLOTS:
            assert cell_of(crossed, b, slot) == cell_of(batch, b, slot)
        for cross in crosses:
            assert cell_of(crossed, b, cross.name) == reference(batch, b, cross)


@given(cells_of, crosses_of, st.booleans(), st.integers(1, 9))
def test_blocks_give_the_stored_keys(
    cells: list[Any], crosses: list[Cross], valued: bool, examples: int
) -> None:
    batch = make(cells, valued)
    crossed = with_crosses(batch, crosses)
    C, at = len(crosses), 0
    for block in cross_blocks(batch, crosses, examples=examples):
        assert (block.start, block.stop) == (at, min(at + examples, len(batch)))
        assert block.offsets[0] == 0
        assert block.offsets[-1] == block.keys.size
        values = np.ones(block.keys.size) if block.values is None else block.values
        assert (block.values is None) == (not valued)
        for i in range(block.stop - block.start):
            for c, cross in enumerate(crosses):
                own = slice(block.offsets[i * C + c], block.offsets[i * C + c + 1])
                pairs = list(zip(block.keys[own].tolist(), values[own], strict=True))
                assert pairs == cell_of(crossed, at + i, cross.name)
        at = block.stop
    assert at == len(batch)


def test_blocks_use_their_memory_again() -> None:
    batch = make([([1], [2, 3], [4])] * 10)
    addresses = {b.keys.ctypes.data for b in cross_blocks(batch, CROSSES[:1], examples=2)}
    assert len(addresses) == 1


def test_groups_make_a_cross_of_every_choice() -> None:
    groups = CrossGroups("g", groups=(("a", "b"), ("c",)))
    assert groups.crosses == (Cross("g.a_x_c", of=("a", "c")), Cross("g.b_x_c", of=("b", "c")))
    three = CrossGroups("g", groups=(("a",), ("b",), ("c", "d")))
    assert [cross.of for cross in three.crosses] == [("a", "b", "c"), ("a", "b", "d")]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((("a",),), "'g' need at least 2 groups"),
        ((("a",), ()), "'g' need at least 2 groups"),
        ((("a", "b"), ("b",)), r"'g': \['b'\] stand more than once"),
    ],
)
def test_groups_that_cannot_be_are_named(groups: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossGroups("g", groups=groups)


def test_errors_name_the_member_and_the_size() -> None:
    batch = make([([1], [2], [3])])
    for crossed in (with_crosses, cross_blocks):
        with pytest.raises(ConfigError, match="cross 'x': 'd' is not a feature with a slot"):
            crossed(batch, [Cross("x", of=("a", "d"))])
    with pytest.raises(ConfigError, match="examples must be at least 1"):
        cross_blocks(batch, CROSSES, examples=0)
    n = 1300
    huge = dataclasses.replace(
        batch, keys=np.ones(3 * n, np.uint64), offsets=np.array([0, n, 2 * n, 3 * n], np.int32)
    )
    with pytest.raises(DataError, match="fewer than 2"):
        with_crosses(huge, [Cross("abc", of=("a", "b", "c"))])
    assert with_crosses(batch, []) is batch
