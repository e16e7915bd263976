"""Baselines on counts that can be done by hand, and against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models import DenseLogit, ItemPopularity, UserItemMean, auc

BatchOf = Callable[..., Batch]


@pytest.fixture
def known(batch_of: BatchOf) -> Batch:
    """Item 5: 3 of 4 liked, item 6: 0 of 2; user 1 likes 2 of 2, user 2 likes 1 of 4."""
    return replace(
        batch_of(6),
        items=np.array([5, 5, 5, 5, 6, 6], np.uint64),
        groups=np.array([1, 1, 2, 2, 2, 2], np.uint64),
        labels=np.array([[1], [1], [1], [0], [0], [0]], np.float32),
    )


def test_item_popularity(known: Batch) -> None:
    scores = ItemPopularity(strength=2.0).fit(known).score(known)
    # The overall share is a half: (3 + 1) / 6 and (0 + 1) / 4.
    np.testing.assert_allclose(scores, [4 / 6] * 4 + [1 / 4] * 2, rtol=1e-6)
    unknown = replace(known, items=np.array([1, 5, 7, 2**63, 9, 9], np.uint64))
    expected = [0.5, 4 / 6, 0.5, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(
        ItemPopularity(strength=2.0).fit(known).score(unknown), expected, rtol=1e-6
    )


def test_user_and_item_mean(known: Batch) -> None:
    scores = UserItemMean(strength=2.0).fit(known).score(known)
    first, second = (2 + 1) / 4, (1 + 1) / 6
    np.testing.assert_allclose(scores[0], first + 4 / 6 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(scores[4], second + 1 / 4 - 0.5, rtol=1e-6)
    sure = UserItemMean(strength=1e-9).fit(known).score(known)
    assert sure.max() == np.float32(0.99)
    assert sure.min() == np.float32(0.01)


def test_dense_logit_reaches_the_optimum(batch_of: BatchOf) -> None:
    batch = batch_of(800)
    ours = DenseLogit("price", "age").fit(batch).score(batch)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(batch.dense, batch.labels[:, 0])
    np.testing.assert_allclose(ours, theirs.predict_proba(batch.dense)[:, 1], atol=1e-4)
    assert auc(batch.labels, ours) > 0.6


def test_separable_data_stay_finite(batch_of: BatchOf) -> None:
    batch = batch_of(50)
    batch = replace(batch, labels=(batch.dense[:, :1] > 0).astype(np.float32))
    scores = DenseLogit("age").fit(batch).score(batch)
    assert np.isfinite(scores).all()
    assert auc(batch.labels, scores) == 1.0


def test_mistakes_are_named(known: Batch) -> None:
    with pytest.raises(DataError, match="'prise'; did you mean 'price'"):
        DenseLogit("prise").fit(known)
    with pytest.raises(DataError, match="not fitted"):
        ItemPopularity().score(known)
    with pytest.raises(DataError, match="empty batch"):
        UserItemMean().fit(known.slice(0, 0))
    with pytest.raises(ConfigError, match="strength"):
        ItemPopularity(strength=0)
    with pytest.raises(ConfigError, match="at least one"):
        DenseLogit()
