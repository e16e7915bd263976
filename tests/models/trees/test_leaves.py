"""Leaves as keys: known answers, and nothing of the batch is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from weiml.data import BatchDataset
from weiml.errors import DataError
from weiml.features import Batch
from weiml.hashing import hash_key
from weiml.models.trees import LEAVES, GBDTConfig, GBDTTrainer, LeafEncoder

Sets = tuple[BatchDataset, BatchDataset]


@pytest.fixture(scope="module")
def grown(sets: Sets) -> tuple[LeafEncoder, np.ndarray]:
    """Return the encoder, and LightGBM's leaves of the validation set."""
    model = GBDTTrainer(GBDTConfig(rounds=6, num_leaves=5)).fit(sets[0]).model
    return LeafEncoder.of(model), model.leaves(sets[1].read())


@pytest.mark.parametrize("valued", [False, True])
def test_the_slot_is_added_behind_the_others(
    grown: tuple[LeafEncoder, np.ndarray], sets: Sets, valued: bool
) -> None:
    encoder, leaves = grown
    batch = sets[1].read()
    if valued:
        batch = replace(batch, values=np.full(batch.keys.size, 2, np.float32))
    extended = encoder.with_leaves(batch)
    extended.validate()
    assert extended.slots == (*batch.slots, LEAVES)
    S = len(batch.slots)
    for b in range(0, len(batch), 97):
        start, last, stop = (extended.offsets[b * (S + 1) + s] for s in (0, S, S + 1))
        own = slice(batch.offsets[b * S], batch.offsets[(b + 1) * S])
        np.testing.assert_array_equal(extended.keys[start:last], batch.keys[own])
        expected = [hash_key("weiml.leaf", f"{t}:{leaf}") for t, leaf in enumerate(leaves[b])]
        assert extended.keys[last:stop].tolist() == expected
        if extended.values is not None:
            assert set(extended.values[start:last].tolist()) <= {2.0}
            assert extended.values[last:stop].tolist() == [1.0] * len(expected)
    assert (extended.values is not None) == valued
    lengths = np.diff(extended.offsets).reshape(len(batch), S + 1)
    np.testing.assert_array_equal(lengths[:, :S], np.diff(batch.offsets).reshape(-1, S))


def test_alone_there_is_nothing_else(grown: tuple[LeafEncoder, np.ndarray], sets: Sets) -> None:
    encoder, leaves = grown
    batch = sets[1].read()
    alone = encoder.with_leaves(batch, alone=True)
    alone.validate()
    assert (alone.slots, alone.dense_names) == ((LEAVES,), ())
    assert np.unique(alone.keys).size == sum(np.unique(tree).size for tree in leaves.T)
    np.testing.assert_array_equal(alone.labels, batch.labels)


def test_bytes_keep_all_and_damage_is_told(
    grown: tuple[LeafEncoder, np.ndarray], sets: Sets
) -> None:
    data = grown[0].to_bytes()
    batch = sets[1].read()
    again = LeafEncoder.from_bytes(data).with_leaves(batch)
    np.testing.assert_array_equal(again.keys, grown[0].with_leaves(batch).keys)
    for damaged in (data[:50], b"{}", data.replace(b"left_child", b"lost_child")):
        with pytest.raises(DataError, match="damaged"):
            LeafEncoder.from_bytes(damaged)


def test_leaves_are_not_added_twice(
    grown: tuple[LeafEncoder, np.ndarray], examples_of: Callable[..., Batch]
) -> None:
    with pytest.raises(DataError, match="already"):
        grown[0].with_leaves(grown[0].with_leaves(examples_of(5)))
