"""Features for predicting clicks: real impressions of a fashion shop (Open Bandit).

Run it with ``python -m pipelines.ads``; what becomes of each column stands in
configs/features/ads.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from weiml.cli.pipeline import Tables, run_pipeline
from weiml.data import Examples, Rate

SPEC = Path(__file__).resolve().parent.parent / "configs/features/ads.toml"
ITEM = ("policy", "campaign", "item_id")


def prepare(tables: Tables) -> Mapping[str, Examples]:
    """Join items, take the user's affinity to the one shown, count its clicks so far, split."""
    clicks = {"ctr": Rate(of="label", prior=0.005, strength=200)}
    return (
        tables("impressions")
        .rename(label="click")
        .join(tables("items"), ITEM, "left")
        .map(with_affinity)
        .drop("affinities")
        .with_counters(ITEM[1:], "timestamp", None, rates=clicks, delay="1h", prefix="item")
        .split_by_time("timestamp")
    )


def with_affinity(table: pa.Table) -> pa.Table:
    """Add the affinity of the user to the item: `affinities` holds those to all, by item_id.

    It is missing where there is no list, or none as long as that.
    """
    lists = table["affinities"].combine_chunks()
    item = table["item_id"].fill_null(-1).to_numpy()
    starts, lengths = lists.offsets.to_numpy()[:-1], lists.value_lengths().fill_null(0).to_numpy()
    known = (item >= 0) & (item < lengths)
    shown = lists.values.take(pa.array(np.where(known, starts + item, 0), mask=~known))
    return table.append_column("affinity", shown.cast(pa.float32()))


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    return run_pipeline(prepare, name="pipelines.ads", dataset="open-bandit", spec=SPEC, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
