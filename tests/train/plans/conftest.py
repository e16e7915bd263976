"""A small set of clicks, and a plan over it that trains in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def clicks(count: int, seed: int = 0) -> pa.Table:
    """Return clicks, an eighth of the views: by the user's kind and where the price lies."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 400, count), rng.integers(0, 12, count)
    price = rng.lognormal(1, 1, count)
    logit = -2.9 + 1.5 * np.sin(item) + 2.0 * ((price > 2) & (price < 6)) + 0.5 * np.cos(user)
    return pa.table(
        {
            "label": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int8),
            "user_id": user,
            "item_id": item,
            "price": price,
            "timestamp": np.sort(rng.integers(0, 10 * count, count)),
        }
    )


FEATURES: dict[str, Any] = {
    "transforms": [
        {"type": "quantile", "column": "price", "buckets": 8, "output": "price_bucket"},
        {"type": "mdl", "column": "price", "output": "price_mdl"},
        {"type": "gbdt_leaves", "columns": ["price"], "trees": 3, "depth": 2, "examples": 2000},
    ],
    "features": [
        {"type": "categorical", "name": "user_id"},
        {"type": "categorical", "name": "item_id"},
        {"type": "categorical", "name": "price_bucket"},
        {"type": "categorical", "name": "price_mdl"},
        {"type": "sparse_binary", "name": "leaves"},
        {"type": "continuous", "name": "price"},
    ],
}


@pytest.fixture(scope="session")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("views") / "views.parquet"
    pq.write_table(clicks(20_000), file, row_group_size=7_000)
    return file


@pytest.fixture
def tree(views: Path) -> dict[str, Any]:
    """A plan as TOML says it; negatives are thinned to a quarter."""
    shares = {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}
    model = {"name": "lr", "optimizer": {"alpha": 0.1}}
    network = {"epochs": 2, "batch_size": 512, "early_stopping_metric": "auc"}
    return {
        "data": {"files": str(views), "shares": shares, "keep_negatives": 0.25},
        "features": FEATURES,
        "network": {**network, "early_stopping_patience": 0, "model": model},
        "calibration": {"name": "isotonic", "num_bins": 20},
    }
