"""MNIST by a CNN on two workers, Ray actors that average their gradients over gloo.

    python -m benchmarks.mnist [--quick] [--folder FOLDER]

Two bars: the accuracy on the test digits, and that two workers with batches of B have the loss
curve of one with 2 B. The folder holds the whole set, mnist_train.npz and mnist_test.npz; without
one it is the 5,000 digits of `weiml.data.fetch("mnist")`, for which the bar is lower.

The curves are compared in float32, without dropout and moves, which each worker draws for itself,
over 32 steps: they agree but for rounding, which training makes grow step by step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, pstdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.harness import Case, run
from weiml.cluster import start_ray
from weiml.config import load_config
from weiml.data import BatchDataset, fetch, image_batches, read_mnist_folder, write_batches
from weiml.models import CNNConfig, Columns
from weiml.train import TrainConfig, Trainer
from weiml.train import worker as work
from weiml.train.evaluate_classes import evaluate_class_model
from weiml.train.trainer import make_group, make_server

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "models" / "cnn.toml"
ON_RAY: dict[str, Any] = {"transport": "ray", "num_workers": 2, "timeout_s": 600.0}
BATCH_SIZE = 128
"""Of all workers together."""
BARS = {"whole": 0.992, "small": 0.97}
CLOSE = 1e-5
STEPS = 32


def tables(folder: str) -> Mapping[str, pa.Table]:
    """Return the tables train and test."""
    if folder:
        return read_mnist_folder(folder)
    fetched = fetch("mnist")
    return {name: pq.read_table(fetched / f"{name}.parquet") for name in ("train", "test")}


def fit(train: BatchDataset, test: BatchDataset, seed: int, epochs: int) -> tuple[float, float]:
    """Return (accuracy on the test digits, median of the epochs' examples/s)."""
    settings = load_config(TrainConfig, CONFIG)
    settings = replace(settings, **ON_RAY, batch_size=BATCH_SIZE // 2, seed=seed, epochs=epochs)
    result = Trainer(settings).fit(train)
    metrics, _ = evaluate_class_model(result.predictor(), test)
    return metrics["accuracy"], median(e["examples_per_second"] for e in result.history)


def neighbours(train: BatchDataset, test: BatchDataset) -> float:
    """Return the accuracy of the three nearest training digits."""
    known, asked = train.read(), test.read()
    peer = KNeighborsClassifier(3, algorithm="brute", n_jobs=-1)
    peer.fit(known.dense, known.labels[:, 0])
    return float(np.mean(peer.predict(asked.dense) == asked.labels[:, 0]))


def curve(folder: Path, workers: int) -> np.ndarray:
    """Return the loss of the first steps, over all workers: float64 (STEPS,)."""
    source = BatchDataset.open(folder, split="steps")
    # Adam and Adagrad step by ±lr at first, however small a
    # gradient is, so that rounding decides where some weights go.
    model = CNNConfig(mean=(0.1307,), std=(0.3081,), dropout=0, optimizer="sgd", lr=0.01)
    settings = ON_RAY | {"num_workers": workers, "batch_size": BATCH_SIZE // workers}
    config = TrainConfig(model=model, **settings)
    with make_server(config) as server, make_group(config, embedded=False) as group:
        spec = work.WorkerSpec(
            model_config=config.model_config,
            columns=Columns(slots=source.slots, dense_names=source.dense_names),
            seed=config.seed,
            batch_size=config.batch_size,
            source=source,
            server=server,
        )
        group.execute(work.start_worker, spec)
        group.execute(work.start_epoch, 0)
        steps = [group.run(work.run_steps, 1) for _ in range(STEPS)]
        group.execute(work.finish)
    return np.array([sum(r.loss for r in s) / sum(r.weight for r in s) for s in steps])


def cases(quick: bool, folder: str = "") -> Iterator[Case]:
    """Train on a Ray of the benchmark's own; quick: one seed, few epochs."""
    passes = {"whole": (2, 12), "small": (10, 30)}["whole" if folder else "small"]
    seeds, epochs = (1, passes[0]) if quick else (3, passes[1])
    start_ray(num_cpus=2)
    try:
        with tempfile.TemporaryDirectory() as made:
            sets = {
                name: write_batches(image_batches(table), Path(made) / name, packed=True)
                for name, table in tables(folder).items()
            }
            train, test = sets["train"], sets["test"]
            yield same_curve(train)
            bar = BARS["whole" if folder else "small"]
            yield accuracy_case(train, test, seeds, epochs, 0.95 if quick else bar)
    finally:
        ray.shutdown()


def same_curve(train: BatchDataset) -> Case:
    """Compare the curves of two workers and of one."""
    two, one = curve(train.folder, 2), curve(train.folder, 1)
    apart = float(np.abs(two - one).max())
    return Case(
        case="2 workers of 64 beside 1 of 128: equal digits of the loss",
        value=-float(np.log10(max(apart, 1e-9))),
        unit="digits",
        peer="the bar",
        peer_value=-float(np.log10(CLOSE)),
        goal=f"each step's loss equal to {CLOSE:g}",
        holds=apart <= CLOSE,
        quality=f"largest difference {apart:.1g}; loss {one[0]:.3f} to {one[-1]:.3f}",
        regime=f"{STEPS} steps of 128 examples, float32, Ray actors over gloo",
        n=1,
    )


def accuracy_case(
    train: BatchDataset, test: BatchDataset, seeds: int, epochs: int, bar: float
) -> Case:
    """Train once a seed and compare with nearest neighbours."""
    runs = [fit(train, test, seed + 1, epochs) for seed in range(seeds)]
    found = [accuracy for accuracy, _ in runs]
    return Case(
        case="CNN, accuracy on the test digits",
        value=mean(found),
        unit="share",
        peer="3 nearest neighbours (scikit-learn)",
        peer_value=neighbours(train, test),
        goal=f"at least {bar:g}",
        holds=mean(found) >= bar,
        quality=f"deviation over seeds {pstdev(found):.4f}, least {min(found):.4f}; "
        f"{median(rate for _, rate in runs):,.0f} examples/s",
        regime=f"{train.num_examples:,} digits, {epochs} epochs, 2 Ray actors over gloo, batches "
        f"of {BATCH_SIZE} together, bfloat16",
        n=seeds,
    )


def main() -> None:
    """Run the benchmark."""
    run("mnist", cases, folder="")


if __name__ == "__main__":
    main()
