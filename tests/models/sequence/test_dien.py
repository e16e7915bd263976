"""DIEN: the auxiliary loss by a loop, weights of examples in it, gaps, and the configuration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.sequence.test_din import random_history
from weiml.errors import ConfigError
from weiml.models import DIENConfig
from weiml.models.checks import example_batch, trained
from weiml.models.sequence import History
from weiml.models.sequence.dien import InterestEvolution, next_event_loss

CONFIG = DIENConfig(
    sequences=("history",), targets=("item",), hidden=(8,), embedding_dim=4, max_length=4
)


def test_the_auxiliary_loss_is_the_mean_over_an_examples_steps() -> None:
    history = random_history()
    interests = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1))
    found = next_event_loss(interests, history, torch.Generator().manual_seed(2))
    events, mask = history.events.double().numpy(), history.mask.numpy()
    everything = events[mask]
    steps = [(b, j) for b in range(6) for j in range(3) if mask[b, j + 1]]
    draws = torch.randint(
        len(everything), (len(steps),), generator=torch.Generator().manual_seed(2)
    )
    losses: list[list[float]] = [[] for _ in range(6)]
    for (b, j), draw in zip(steps, draws.tolist(), strict=True):
        h = interests[b, j].double().numpy()
        right = np.log1p(np.exp(-h @ events[b, j + 1]))
        losses[b].append(right + np.log1p(np.exp(h @ everything[draw])))
    expected = [float(np.mean(own)) if own else 0.0 for own in losses]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0] == 0  # it has no history


def test_an_event_without_a_row_is_as_if_it_were_not_there() -> None:
    torch.manual_seed(0)
    evolution = InterestEvolution(3)
    mask = torch.tensor([[True, True, True, False]])
    history = History(torch.randn(1, 4, 3), mask, torch.randn(1, 3))
    state, _ = evolution(history)
    other = history.events.clone()
    other[0, 3] = 7.0
    torch.testing.assert_close(evolution(history._replace(events=other))[0], state)


def test_examples_without_weight_have_no_auxiliary_loss() -> None:
    """Only they have steps here: summed plainly, the loss would teach their events' rows."""
    batch = example_batch(40)
    lengths = np.diff(batch.offsets).reshape(40, 4)[:, 3]
    batch.weights[lengths > 1] = 0
    made = trained(replace(CONFIG, activation="relu"), [])  # Dice knows the others' statistics
    fetch = made.model.fetch(made.client, made.model.prepare(batch))
    made.model.compute(made.client, fetch)
    gradients = made.model._learned.sequences  # type: ignore[attr-defined]
    assert gradients[lengths == 1].any()
    assert not gradients[lengths > 1].any()


def test_the_auxiliary_loss_can_be_left_out() -> None:
    batches = [example_batch(64, seed) for seed in range(2)]
    plain = trained(replace(CONFIG, auxiliary=0.0), batches)
    assert plain.losses != trained(CONFIG, batches).losses
    with pytest.raises(ConfigError, match="auxiliary must not be negative, got -1"):
        replace(CONFIG, auxiliary=-1.0)
