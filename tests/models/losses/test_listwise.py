"""Listwise loss: known answers, and its gradients move nothing on the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.models.losses.conftest import Inputs
from weiml.models.losses import Listwise


def test_known_answers() -> None:
    logits = np.array([0.0, 0.0, 0.0, 7.0, 3.0, -2.0])
    labels = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    found = Listwise()(logits, labels, None, np.array([1, 1, 1, 2, 3, 3]))
    np.testing.assert_allclose(found.values, [math.log(3) / 2, 0, math.log(3) / 2, 0, 0, 0])
    np.testing.assert_allclose(found.gradients[:3], [-1 / 6, 1 / 3, -1 / 6])
    assert found.weight == 1  # groups of one example, or without a positive, say nothing


@pytest.mark.parametrize("loss", [Listwise(), Listwise(target="softmax")])
def test_only_differences_within_a_group_matter(loss: Listwise, batch: Inputs) -> None:
    found = loss(*batch)
    moved = loss(batch.logits + batch.groups.astype(float), *batch[1:])
    np.testing.assert_allclose(moved.values, found.values, atol=1e-12)
    np.testing.assert_allclose(
        np.bincount(batch.groups.astype(int), found.gradients), 0, atol=1e-12
    )
