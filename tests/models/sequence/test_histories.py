"""Histories are cut out of the inputs whole, in order, with nothing of the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from weiml.models import DINConfig
from weiml.models.deep import Inputs, NetworkShape
from weiml.models.sequence import Histories, History
from weiml.models.sequence.histories import masked_softmax, newest_first, without_gaps

SLOTS = ("user", "item", "history", "shop", "shops")


def make_inputs(lengths: list[int]) -> Inputs:
    """Two sequences whose event j of example b is 100 b + j (and + 0.5 for shops)."""
    shape = NetworkShape(
        slots=SLOTS,
        row_dim=2,
        dense_names=("age",),
        sequences=("history", "shops"),
        max_length=5,
        generator=torch.Generator(),
    )
    count = len(lengths)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    events = (100.0 * torch.arange(count)[:, None] + torch.arange(5)) * mask
    sequences = torch.stack([events, (events + 0.5) * mask], 1).unsqueeze(3).expand(-1, -1, -1, 2)
    flat = torch.arange(count * 11.0).reshape(count, 11)
    return Inputs(flat, None, sequences, torch.stack([mask, mask], 1), shape)


def histories(inputs: Inputs, **knobs: Any) -> tuple[Histories, list[History], torch.Tensor]:
    config = DINConfig(sequences=inputs.shape.sequences, **knobs)
    made = Histories(config, inputs.shape)
    return made, *made(inputs)


def test_each_sequence_is_a_history_of_its_own() -> None:
    inputs = make_inputs([2, 0, 3])
    made, (items, shops), rest = histories(inputs, targets=("item", "shop"))
    assert (made.count, made.width, made.num_rest) == (2, 2, 7)
    assert items.events.shape == (3, 3, 2)  # as long as the longest
    assert items.mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert shops.events[2, :, 0].tolist() == [200.5, 201.5, 202.5]
    assert items.target.tolist() == inputs.flat[:, 2:4].tolist()
    assert shops.target.tolist() == inputs.flat[:, 6:8].tolist()
    assert rest.tolist() == inputs.flat[:, [0, 1, 2, 3, 6, 7, 10]].tolist()


def test_joined_sequences_are_one_history() -> None:
    made, (events,), _ = histories(make_inputs([1, 2]), targets=("item", ""), joined=True)
    assert (made.count, made.width) == (1, 4)
    assert events.events[1].tolist() == [[100.0, 100.0, 100.5, 100.5], [101.0, 101.0, 101.5, 101.5]]
    assert events.target[1].tolist() == [13.0, 14.0, 0.0, 0.0]


def test_no_history_at_all_leaves_one_place() -> None:
    _, (items, _), _ = histories(make_inputs([0, 0]), targets=("item", "shop"))
    assert items.mask.tolist() == [[False], [False]]


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_closed_and_order_is_turned(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 5)) < 0.5
    events = np.arange(1.0, 31.0).reshape(6, 5, 1) * mask[:, :, None]
    history = History(torch.tensor(events), torch.tensor(mask), torch.zeros(6, 1))
    closed, turned = without_gaps(history), newest_first(history)
    for b in range(6):
        known = events[b, mask[b], 0].tolist()
        behind = [0.0] * (5 - len(known))
        assert closed.events[b, :, 0].tolist() == known + behind
        assert turned.events[b, :, 0].tolist() == known[::-1] + behind
        for moved in (closed, turned):
            assert moved.mask[b].tolist() == [True] * len(known) + [False] * len(behind)


def test_a_softmax_over_nothing_is_nothing() -> None:
    scores = torch.tensor([[1.0, 2.0, 900.0], [1.0, 2.0, 3.0]])
    found = masked_softmax(scores, torch.tensor([[True, True, False], [False] * 3]))
    e = np.exp(1.0)
    expected = [[1 / (1 + e), e / (1 + e), 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
