"""The empirical distribution function against scikit-learn's quantile transformer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import QuantileTransformer

from weiml.errors import ConfigError
from weiml.features.transforms import CDF


def applied(transform: CDF, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    fitted = transform.fit(pa.table({"x": train}))
    return np.asarray(fitted.apply(pa.table({"x": test})).column("x").to_numpy())


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_scikit_learns(ties: bool, rng: np.random.Generator) -> None:
    train, test = rng.lognormal(0, 1, 3000), rng.lognormal(0, 1, 200)
    if ties:
        train, test = np.floor(train), np.floor(test)
    reference = QuantileTransformer(n_quantiles=100, subsample=None).fit(train[:, None])
    expected = reference.transform(test[:, None])[:, 0]
    found = applied(CDF("x", knots=100), train, test)
    # At its two ends scikit-learn gives 0 and 1, also to ties; here ties have their middle.
    inside = (test > train.min()) & (test < train.max())
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-9)
    assert found[~inside].size < test.size / 2


def test_known_answers() -> None:
    found = applied(CDF("x"), np.arange(11.0), np.array([-1.0, 0.0, 2.5, 10.0, 99.0]))
    np.testing.assert_allclose(found, [0.0, 0.0, 0.25, 1.0, 1.0], atol=1e-12)


def test_shares_are_even_whatever_the_shape(rng: np.random.Generator) -> None:
    x = np.where(rng.random(100_000) < 0.3, 0.3, rng.lognormal(0, 3, 100_000))
    shares = applied(CDF("x"), x, x)
    tied = shares[x == 0.3]
    assert (tied == tied[0]).all()
    below, up_to = (x < 0.3).mean(), (x <= 0.3).mean()
    assert tied[0] == pytest.approx((below + up_to) / 2, abs=0.002)
    others = np.sort(shares[x != 0.3])
    ranks = np.searchsorted(np.sort(x), np.sort(x[x != 0.3])) / x.size
    assert np.abs(others - ranks).max() < 0.002


def test_too_few_knots_are_told() -> None:
    with pytest.raises(ConfigError, match="knots"):
        CDF("x", knots=1)
