"""Training on the parameter server in process, and on 2 shards as Ray actors.

    python -m benchmarks.train_transports [--quick]

The same model, batches and seed on both; embedded is the peer. Under BSP both compute the same
numbers, so the log-losses must be equal, and the ratio is what the transport costs. A generated
feed stands in for data of any size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from benchmarks.harness import Case, run
from weiml.cluster import start_ray
from weiml.data import (
    BatchDataset,
    FeatureView,
    HistoryState,
    Profiles,
    SyntheticConfig,
    generate_feed,
    write_batches,
)
from weiml.features import FeatureEncoder, FeatureSpec
from weiml.train import TrainConfig, Trainer

SPEC = Path(__file__).resolve().parent.parent / "configs" / "features" / "feed.toml"
BATCH_SIZE = 4096
ON_RAY: dict[str, Any] = {"transport": "ray", "num_shards": 2, "cpus_per_worker": 0}


def datasets(folder: Path, size: int) -> tuple[BatchDataset, BatchDataset]:
    """Write a generated feed as a training and a validation set."""
    tables = generate_feed(SyntheticConfig(events=size, users=2000, items=1700))
    ratings = tables["ratings"].sort_by("timestamp")
    users = Profiles(tables["users"], "user_id")
    view = FeatureView(users, Profiles(tables["items"], "item_id"), HistoryState())
    examples = view.examples(ratings)
    label = pc.cast(pc.greater_equal(examples["rating"], 4), pa.float32())
    examples = examples.append_column("label", label)
    cut = int(size * 0.9)
    encoder = FeatureEncoder(FeatureSpec.from_toml(SPEC)).fit(examples.slice(0, cut))
    train = write_batches([encoder.encode(examples.slice(0, cut))], folder / "train")
    validation = write_batches([encoder.encode(examples.slice(cut))], folder / "validation")
    return train, validation


def fit(
    model: str, train: BatchDataset, validation: BatchDataset, epochs: int, **transport: Any
) -> tuple[float, float]:
    """Return examples/s, the median over the epochs after the first, and the last log-loss."""
    settings: dict[str, Any] = {
        "model": model,
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "early_stopping_patience": 0,
    }
    result = Trainer(TrainConfig(**settings, **transport)).fit(train, validation)
    rates = [entry["examples_per_second"] for entry in result.history[1:]]
    return median(rates), result.history[-1]["validation_log_loss"]


def cases(quick: bool) -> Iterator[Case]:
    """Compare the transports on a Ray of the benchmark's own."""
    start_ray(num_cpus=2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            size = 20_000 if quick else 200_000
            train, validation = datasets(Path(folder), size)
            for model in ("lr", "wide_deep"):
                yield compare(model, train, validation, *((1, 4) if quick else (3, 3)))
    finally:
        ray.shutdown()


def compare(
    model: str, train: BatchDataset, validation: BatchDataset, rounds: int, epochs: int
) -> Case:
    """Train on both transports in turns; each is warm after its first epoch."""
    pairs = [
        (fit(model, train, validation, epochs, **ON_RAY), fit(model, train, validation, epochs))
        for _ in range(rounds)
    ]
    return Case(
        case=f"{model}, Ray, 2 shards, 1 worker",
        value=median(there[0] for there, _ in pairs),
        unit="examples/s",
        peer="embedded, 1 shard",
        peer_value=median(here[0] for _, here in pairs),
        goal="log-loss equal to the embedded one",
        holds=all(there[1] == here[1] for there, here in pairs),
        quality=f"log-loss {pairs[0][0][1]:.4f}, embedded {pairs[0][1][1]:.4f}",
        regime=f"BSP, batches of {BATCH_SIZE}, {train.num_examples:,} examples of "
        f"{len(train.slots)} slots, epochs after the first, tables in memory",
        n=rounds * (epochs - 1),
    )


def main() -> None:
    """Run the benchmark."""
    run("train_transports", cases)


if __name__ == "__main__":
    main()
