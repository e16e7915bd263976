"""A generated data set with the shape of MovieLens, of any size, for tests and trials without data.

Ratings follow a latent model (user and item bias, tastes by genre that depend on gender and
occupation), items' popularity is Zipf-like, and new users keep arriving, so that models, history
features and splits by time have something real to find. It is no benchmark of ranking quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weiml.data.datasets.movielens import GENRES
from weiml.data.datasets.registry import Dataset, Workshop, register_dataset
from weiml.errors import ConfigError

__all__ = ["SyntheticConfig", "generate_feed"]

_OCCUPATIONS = ("artist", "doctor", "educator", "engineer", "lawyer", "student", "writer")
_WORDS = (
    ("Silent", "Last", "Golden", "Broken", "Distant", "Hidden", "Little", "Night"),
    ("River", "Garden", "Letter", "Soldier", "City", "Dream", "Harbour", "Winter"),
)
_START = 874_724_710  # 20 September 1997, the first second of MovieLens-100k
_SPAN_S = 215 * 86_400
_MAX_GENRES = 3


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """How large the data set is; the same configuration gives the same tables."""

    events: int = 20_000
    users: int = 400
    items: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("events", "users", "items"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


def generate_feed(config: SyntheticConfig) -> dict[str, pa.Table]:
    """Return the tables ratings, users and items, with the schemas of movielens-100k.

    >>> tables = generate_feed(SyntheticConfig(events=100, users=10, items=20))
    >>> [table.num_rows for table in tables.values()]
    [100, 10, 20]
    """
    rng = np.random.default_rng(config.seed)
    users = _users(rng, config.users)
    membership, items = _items(rng, config.items)
    user, item, times = _events(rng, config)
    ratings = _ratings(rng, users, membership, user, item)
    table = pa.table(
        {
            "user_id": pa.array(user + 1, pa.int32()),
            "item_id": pa.array(item + 1, pa.int32()),
            "rating": pa.array(ratings, pa.float32()),
            "timestamp": pa.array(times, pa.int64()),
        }
    )
    by_time = [("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")]
    return {"ratings": table.sort_by(by_time), "users": users, "items": items}


def _users(rng: np.random.Generator, n: int) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array(np.arange(1, n + 1), pa.int32()),
            "age": pa.array(rng.integers(7, 74, n), pa.int32()),
            "gender": pa.array(rng.choice(["F", "M"], n, p=[0.3, 0.7])),
            "occupation": pa.array(rng.choice(_OCCUPATIONS, n)),
            "zip_code": pa.array([f"{code:05d}" for code in rng.integers(0, 100_000, n)]),
        }
    )


def _items(rng: np.random.Generator, n: int) -> tuple[np.ndarray, pa.Table]:
    """Return genre membership (n, genres) bool and the table of profiles."""
    membership = np.zeros((n, len(GENRES)), dtype=bool)
    for genre in range(_MAX_GENRES):
        chosen = rng.random(n) < (1.0, 0.5, 0.25)[genre]
        membership[chosen, rng.integers(1, len(GENRES), n)[chosen]] = True
    first, second = (rng.choice(words, n) for words in _WORDS)
    titles = [f"The {a} {b} {i}" for i, (a, b) in enumerate(zip(first, second, strict=True), 1)]
    table = pa.table(
        {
            "item_id": pa.array(np.arange(1, n + 1), pa.int32()),
            "title": pa.array(titles),
            "release_year": pa.array(rng.integers(1930, 1999, n), pa.int32()),
            "genres": pa.array(
                [[GENRES[g] for g in np.flatnonzero(row)] for row in membership],
                pa.list_(pa.string()),
            ),
        }
    )
    return membership, table


def _events(
    rng: np.random.Generator, config: SyntheticConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw users, items and seconds; a user is active from a first day on, often within a second.

    A pair of user and item may repeat, as it does in logs.
    """
    n = config.events
    activity = rng.gamma(0.7, 1.0, config.users) + 0.05
    popularity = 1.0 / (np.arange(config.items) + 5.0)
    user = rng.choice(config.users, n, p=activity / activity.sum())
    item = rng.choice(config.items, n, p=popularity / popularity.sum())
    arrival = rng.random(config.users) * 0.9
    share = arrival[user] + rng.beta(0.5, 2.0, n) * (1.0 - arrival[user])
    times = _START + (share * _SPAN_S).astype(np.int64)
    return user, item, times - times % 7  # coarse seconds: ties, as when a page is rated at once


def _ratings(
    rng: np.random.Generator,
    users: pa.Table,
    membership: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
) -> np.ndarray:
    """Draw ratings 1-5 from biases and from tastes by gender, occupation and user."""
    genres = membership.shape[1]
    men = (users["gender"].to_numpy() == "M").astype(np.int64)
    trades = {name: place for place, name in enumerate(_OCCUPATIONS)}
    occupation = np.array([trades[name] for name in users["occupation"].to_pylist()])
    taste = rng.normal(0.0, 0.5, (users.num_rows, genres))
    taste += rng.normal(0.0, 0.4, (2, genres))[men]
    taste += rng.normal(0.0, 0.4, (len(_OCCUPATIONS), genres))[occupation]
    weight = membership / np.maximum(membership.sum(axis=1, keepdims=True), 1)
    affinity = np.einsum("eg,eg->e", taste[user], weight[item])
    score = 3.6 + affinity + rng.normal(0, 0.4, users.num_rows)[user]
    score += rng.normal(0, 0.5, len(membership))[item] + rng.normal(0, 0.7, len(user))
    return np.clip(np.rint(score), 1, 5)


def _build(config: SyntheticConfig, _: Workshop) -> Mapping[str, pa.Table]:
    return generate_feed(config)


register_dataset(
    Dataset(
        name="synthetic-feed",
        description="generated feed with the shape of MovieLens; choose events, users, items, seed",
        licence="none needed: generated",
        home="weiml/data/datasets/synthetic.py",
        build=_build,
        config=SyntheticConfig(),
    )
)
