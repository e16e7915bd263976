"""Ranked feeds: what a live endpoint answers for users, compared with scoring offline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data import FeatureView
from weiml.errors import ClusterError, ConfigError, DataError
from weiml.models import load_scorer
from weiml.serving.app import Endpoint
from weiml.serving.client import Client

__all__ = ["FeedConfig", "RankedFeeds", "rank_feeds"]


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """Which feeds are ranked."""

    users: int = 10
    top_k: int = 10
    seed: int = 0
    """Of the choice of users."""
    tolerance: float = 1e-5
    """How far a served score may be from the one computed offline."""

    def __post_init__(self) -> None:
        for knob in ("users", "top_k"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        if not self.tolerance > 0:
            raise ConfigError(f"tolerance must be above 0, got {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class RankedFeeds:
    """One feed a user, best first, as served."""

    model: str
    model_version: str
    url: str
    timestamp: int
    """The moment for which the feeds were ranked: the start of the test period."""
    feeds: list[dict[str, Any]]
    """user_id, candidates (their number), seen (items of the user before) and items: a list of
    item_id, title, score and rating (what the user gave it later, None if nothing)."""
    max_difference: float
    """Largest difference between a served and an offline score, over all candidates."""
    num_scores: int

    def to_mapping(self) -> dict[str, Any]:
        """Return all of it, fit for JSON."""
        return dict(vars(self))

    def save(self, file: str | Path) -> None:
        """Write it as JSON."""
        Path(file).write_text(json.dumps(self.to_mapping(), indent=1) + "\n", encoding="utf-8")

    def to_text(self, items: int = 5) -> str:
        """Return the first items of each feed as lines for a terminal."""
        lines = []
        for feed in self.feeds:
            lines.append(f"user {feed['user_id']} ({feed['candidates']} unseen films)")
            lines += [f"  {i['score']:.4f}  {i['title']}" for i in feed["items"][:items]]
        return "\n".join(lines)


def rank_feeds(
    endpoint: Endpoint,
    model: str,
    folder: str | Path,
    examples: pa.Table,
    config: FeedConfig | None = None,
) -> RankedFeeds:
    """Rank, over HTTP, what users have not seen, at the start of the test period.

    Every served score is compared with an offline scorer on the rows of the feature view.

    Args:
        endpoint: serves `model` at the snapshot in `folder`, with a view.
        model: its name there.
        folder: the saved model.
        examples: user_id, item_id, timestamp, rating and split of all events.
        config: how many users and items.

    Raises:
        DataError: there is no user with a past, or the endpoint has no view.
        ClusterError: a served score is further from the offline one than the tolerance.
    """
    config = config or FeedConfig()
    if endpoint.config.view is None:
        raise DataError("ranking feeds needs an endpoint with a feature view")
    view = FeatureView.load(endpoint.config.view)
    scorer = load_scorer(folder)
    is_test = pc.equal(examples["split"], "test")
    past, later = examples.filter(pc.invert(is_test)), examples.filter(is_test)
    timestamp = int(pc.min(later["timestamp"]).as_py())
    feeds, difference, scores, version = [], 0.0, 0, ""
    with Client(endpoint.url, model=model) as client:
        for user in _users(past, later, config):
            seen = _column(past, user, "item_id")
            unseen = np.setdiff1d(view.items.ids().to_numpy(), seen)
            served = client.rank(user, unseen, timestamp=timestamp)
            version = served.model_version
            rows = view.rows(user, served.outputs["item_id"].tolist(), timestamp)
            offline = scorer.score(scorer.encoder.encode(rows, labels=False))
            difference = max(difference, float(np.abs(served.outputs["score"] - offline).max()))
            scores += len(unseen)
            ratings = dict(
                zip(_column(later, user, "item_id"), _column(later, user, "rating"), strict=True)
            )
            feeds.append(
                {
                    "user_id": user,
                    "candidates": len(unseen),
                    "seen": len(seen),
                    "items": [
                        {**item, "rating": ratings.get(item["item_id"])}
                        for item in served.rows()[: config.top_k]
                    ],
                }
            )
    if not difference <= config.tolerance:
        raise ClusterError(
            f"served scores differ from offline ones by up to {difference:.3g}, more than "
            f"tolerance = {config.tolerance:g}: does the endpoint serve {folder} at its snapshot "
            f"(it answered as {version}, offline is {scorer.version})?"
        )
    return RankedFeeds(
        model=model,
        model_version=version,
        url=endpoint.url,
        timestamp=timestamp,
        feeds=feeds,
        max_difference=difference,
        num_scores=scores,
    )


def _users(past: pa.Table, later: pa.Table, config: FeedConfig) -> list[Any]:
    """Return users with a past who come again in the test period; others if they are too few."""
    known = pc.unique(past["user_id"])
    if not len(known):
        raise DataError("no user has an event before the test period")
    again = known.filter(pc.is_in(known, value_set=pc.unique(later["user_id"])))
    others = known.filter(pc.invert(pc.is_in(known, value_set=again)))
    rng = np.random.default_rng(config.seed)
    chosen = [rng.permutation(np.sort(ids.to_numpy())) for ids in (again, others)]
    users: list[Any] = np.concatenate(chosen)[: config.users].tolist()
    return sorted(users)


def _column(events: pa.Table, user: Any, name: str) -> list[Any]:
    values: list[Any] = events.filter(pc.equal(events["user_id"], user))[name].to_pylist()
    return values
