"""Small encoded data sets of the generated feed, with the view that serves them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from weiml.data import FeatureView, HistoryState, Profiles, generate_feed, write_batches
from weiml.data import SyntheticConfig as Feed
from weiml.features import Categorical, Continuous, Cross, FeatureEncoder, FeatureSpec, SparseBinary

SPEC = FeatureSpec(
    features=(
        Categorical("user_id"),
        Categorical("item_id"),
        Categorical("gender"),
        Continuous("item_rate", buckets=8),
        Continuous("user_rate"),
        SparseBinary("genres"),
    ),
    crosses=(Cross("gender_x_genres", of=("gender", "genres")),),
)


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, validation/, test/ (BatchDataset) and view/ (FeatureView)."""
    folder = tmp_path_factory.mktemp("features")
    tables = generate_feed(Feed(events=4000, users=60, items=80, seed=1))
    ratings = tables["ratings"].sort_by([("timestamp", "ascending"), ("user_id", "ascending")])
    view = FeatureView(
        Profiles(tables["users"], "user_id"), Profiles(tables["items"], "item_id"), HistoryState()
    )
    examples = view.examples(ratings)
    label = pc.cast(pc.greater_equal(examples["rating"], 4), pa.float32())
    examples = examples.append_column("label", label)
    encoder = FeatureEncoder(SPEC).fit(examples.slice(0, 3000))
    bounds = {"train": (0, 3000), "validation": (3000, 3500), "test": (3500, 4000)}
    for name, (start, stop) in bounds.items():
        batch = encoder.encode(examples.slice(start, stop - start))
        write_batches([batch], folder / name, encoder=encoder)
    view.observe(ratings.slice(0, 3500))
    view.save(folder / "view")
    return folder
