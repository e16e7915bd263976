"""Pairs of slots on the fly: which they are, and what they can learn that slots alone cannot."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.features import Batch, Cross
from weiml.models import Columns, LogisticRegressionConfig, Poly2, Poly2Config
from weiml.models.checks import SLOTS, example_batch, trained
from weiml.ps import FTRL


def test_it_is_logistic_regression_on_all_pairs_of_slots() -> None:
    batches = [example_batch(300, seed, values=True) for seed in range(3)]
    pairs = itertools.combinations(SLOTS, 2)
    crosses = tuple(Cross(f"poly2.{a}_x_{b}", of=(a, b)) for a, b in pairs)
    ours = trained(Poly2Config(), batches)
    plain = trained(LogisticRegressionConfig(crosses=crosses), batches)
    assert ours.losses == plain.losses
    batch = example_batch(50, 9)
    np.testing.assert_array_equal(ours.score(batch), plain.score(batch))
    lengths = np.diff(batch.offsets).reshape(50, 4)
    expected = lengths.sum() + sum(
        (lengths[:, s] * lengths[:, t]).sum() for s, t in itertools.combinations(range(4), 2)
    )
    assert len(ours.model.keys(batch)["linear"]) == expected + 50 * 3  # a bias, two dense


def exclusive(seed: int) -> Batch:
    """Return examples whose label is whether user and item are both odd or both even."""
    batch = example_batch(400, seed)
    parity = (batch.groups + batch.items) % np.uint64(2)
    return replace(batch, labels=parity[:, None].astype(np.float32))


def test_an_exclusive_or_is_learned() -> None:
    batches = [exclusive(seed) for seed in range(30)]
    rule = FTRL(alpha=0.5, l2=0.0)
    pairs = trained(Poly2Config(paired_slots=("user", "item"), optimizer=rule), batches)
    plain = trained(LogisticRegressionConfig(optimizer=rule), batches)
    assert pairs.losses[-1] < 0.35
    assert plain.losses[-1] > 0.65


def test_what_does_not_fit_is_told() -> None:
    columns = Columns.of(example_batch(1))
    with pytest.raises(ConfigError, match="paired_slots: 'itm' is no slot; did you mean 'item'"):
        Poly2(Poly2Config(paired_slots=("user", "itm")), columns)
    with pytest.raises(ConfigError, match=r"\['user'\] stand more than once"):
        Poly2Config(paired_slots=("user", "user"))
