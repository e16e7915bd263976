"""A small feed, its view and two trained models, and one endpoint for the tests that need HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from weiml.data import (
    BatchDataset,
    FeatureView,
    HistoryState,
    Profiles,
    SyntheticConfig,
    generate_feed,
    write_batches,
)
from weiml.features import (
    Categorical,
    Continuous,
    Cross,
    FeatureEncoder,
    FeatureSpec,
    SparseBinary,
    Text,
)
from weiml.models import WideDeepConfig
from weiml.serving import Endpoint, ScalingConfig, ServingConfig, deploy
from weiml.train import TrainConfig, Trainer

SPEC = FeatureSpec(
    features=(
        Categorical("user_id"),
        Categorical("item_id"),
        Categorical("gender"),
        Continuous("age", buckets=4),
        Continuous("release_year"),
        SparseBinary("genres"),
        Text("title", max_tokens=4),
        Categorical("hour"),
        Continuous("user_count", transform="log1p"),
        Continuous("user_rate"),
        Continuous("item_count", transform="log1p"),
        Continuous("item_rate"),
        Continuous("item_mean"),
    ),
    crosses=(Cross("gender_x_genres", of=("gender", "genres")),),
)
TRAIN_SHARE = 0.75


@dataclass(frozen=True)
class Feed:
    """Folders of the models and the view; raw examples of both periods in time order."""

    models: dict[str, str]
    view: str
    examples: Path
    train: pa.Table
    test: pa.Table

    def config(self, **changes: Any) -> ServingConfig:
        return ServingConfig(**({"models": self.models, "view": self.view} | changes))


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    folder = tmp_path_factory.mktemp("feed")
    raw = generate_feed(SyntheticConfig(events=4000, users=60, items=80, seed=3))
    ratings = raw["ratings"].sort_by("timestamp")
    users, items = Profiles(raw["users"], "user_id"), Profiles(raw["items"], "item_id")
    table = FeatureView(users, items, HistoryState()).examples(ratings)
    label = pc.greater_equal(table["rating"], 4.0).cast(pa.float32())
    table = table.append_column("label", label)
    edge = int(table.num_rows * TRAIN_SHARE)
    split = pa.array(["train"] * edge + ["test"] * (table.num_rows - edge))
    table = table.append_column("split", split)
    train, test = table.slice(0, edge), table.slice(edge)
    view = FeatureView(users, items, HistoryState())
    view.observe(train)
    view.save(folder / "view")
    pq.write_table(table, folder / "examples.parquet")
    encoder = FeatureEncoder(SPEC).fit(train)
    write_batches([encoder.encode(train)], folder / "train", encoder=encoder)
    dataset = BatchDataset.open(folder / "train")
    configs = {
        "lr": TrainConfig(model="lr", epochs=1),
        "wide_deep": TrainConfig(
            model=WideDeepConfig(hidden=(16, 8), embedding_dim=4),
            epochs=1,
            num_shards=2,
        ),
    }
    for name, config in configs.items():
        Trainer(config, encoder).fit(dataset).save(folder / name)
    models = {name: str(folder / name) for name in configs}
    return Feed(models, str(folder / "view"), folder / "examples.parquet", train, test)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def running(ray_session: None) -> Iterator[list[Endpoint]]:
    """The endpoint that the modules share, once one of them has asked for it."""
    endpoints: list[Endpoint] = []
    yield endpoints
    shut_down(endpoints)


@pytest.fixture
def endpoint(running: list[Endpoint], feed: Feed) -> Endpoint:
    """Two replicas of both models, over real HTTP."""
    if not running:
        config = feed.config(
            app="weiml-tests",
            port=free_port(),
            scaling=ScalingConfig(min_replicas=2, max_replicas=2),
            poll_timeout_s=1.0,
        )
        running.append(deploy(config))
    return running[0]


@pytest.fixture
def no_endpoint(running: list[Endpoint]) -> None:
    """For tests that bring up their own: a Ray has one Serve, and it has one port."""
    shut_down(running)


def shut_down(endpoints: list[Endpoint]) -> None:
    while endpoints:
        endpoints.pop().shutdown()
