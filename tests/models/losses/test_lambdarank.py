"""LambdaRank: what an exchange changes in NDCG is what NDCG itself says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import ndcg_at_k
from weiml.models.losses import LambdaRank


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_pair_weighs_what_its_exchange_changes(k: int) -> None:
    logits, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])
    group = np.ones(4, int)
    expected = 0.0
    for other in (0, 1, 3):
        exchanged = logits.copy()
        exchanged[[2, other]] = exchanged[[other, 2]]
        change = abs(ndcg_at_k(labels, exchanged, group, k) - ndcg_at_k(labels, logits, group, k))
        expected += change * math.log1p(math.exp(logits[other] - logits[2]))
    found = LambdaRank(k=k)(logits, labels, None, group)
    assert found.total == pytest.approx(expected, rel=1e-12)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"k must be 0 \(all places\) or more, got -1"):
        LambdaRank(k=-1)
