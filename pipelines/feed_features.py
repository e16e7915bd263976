"""Features for ranking a feed: MovieLens ratings with profiles and what was known before each.

Run it with ``python -m pipelines.feed_features``; pipelines.feed goes on to train and serve.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from weiml.cli.pipeline import Tables, run_pipeline
from weiml.data import Examples, Rate, col

SPEC = Path(__file__).resolve().parent.parent / "configs/features/feed_features.toml"
GOOD = 4.0


def prepare(tables: Tables) -> Mapping[str, Examples]:
    """Label ratings, join profiles, count what user and film had before, split by time."""
    liked = {"rate": Rate(of="label", prior=0.5)}
    return (
        tables("ratings")
        .with_columns(label=(col("rating") >= GOOD).cast("float"))
        .join(tables("users"), "user_id", "left")
        .join(tables("items"), "item_id", "left")
        .with_counters("user_id", "timestamp", ["30d", None], rates=liked, prefix="user")
        .with_counters("item_id", "timestamp", ["30d", None], rates=liked, prefix="item")
        .split_by_time("timestamp")
    )


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    return run_pipeline(
        prepare, name="pipelines.feed_features", dataset="movielens-100k", spec=SPEC, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
