from __future__ import annotations

import numpy as np
import pytest

from weiml.data.datasets.movielens import GENRES
from weiml.data.datasets.synthetic import SyntheticConfig, generate_feed
from weiml.errors import ConfigError


def test_the_seed_fixes_the_tables() -> None:
    first, again = (generate_feed(SyntheticConfig(events=500, seed=4)) for _ in range(2))
    other = generate_feed(SyntheticConfig(events=500, seed=5))
    assert all(first[name].equals(again[name]) for name in first)
    assert not first["ratings"].equals(other["ratings"])


def test_it_has_the_shape_of_a_feed() -> None:
    tables = generate_feed(SyntheticConfig(events=20_000, users=300, items=400))
    ratings = tables["ratings"]
    times = ratings["timestamp"].to_numpy()
    assert (np.diff(times) >= 0).all()
    assert (np.diff(times) == 0).any(), "ties are part of the shape"
    assert set(np.unique(ratings["rating"].to_numpy())) == {1, 2, 3, 4, 5}
    assert 0.3 < (ratings["rating"].to_numpy() >= 4).mean() < 0.7
    first = np.unique(ratings["user_id"].to_numpy()[:16_000])
    late = np.unique(ratings["user_id"].to_numpy()[18_000:])
    assert len(np.setdiff1d(late, first)) > 0, "new users keep arriving"
    counts = np.sort(np.bincount(ratings["item_id"].to_numpy()))[::-1]
    assert counts[:40].sum() > 0.3 * len(ratings), "a few items are popular"
    assert {g for genres in tables["items"]["genres"].to_pylist() for g in genres} <= set(GENRES)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="users"):
        SyntheticConfig(users=0)
