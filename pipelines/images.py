"""Image classification on MNIST: digits to batches, a CNN on a group of workers, its accuracy.

    python -m pipelines.images                                   # 5,000 digits out of a wheel
    python -m pipelines.images --mnist FOLDER --workers 2 --set batch_size=64   # the whole set

Several workers are Ray actors that average their gradients over gloo at each step: two with batches
of 64 take the steps of one with 128.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weiml.config import load_config
from weiml.data import (
    BatchDataset,
    fetch,
    image_batches,
    read_mnist_folder,
    rich_progress,
    write_batches,
)
from weiml.errors import DataError, WeimlError
from weiml.train import Progress, TrainConfig, Trainer
from weiml.train.evaluate_classes import evaluate_class_model

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/models/cnn.toml"


def read_digits(mnist: Path | None) -> Mapping[str, pa.Table]:
    """Return the tables train and test: of the whole set in a folder, or of the fetched digits."""
    if mnist is not None:
        return read_mnist_folder(mnist)
    with rich_progress() as progress:
        folder = fetch("mnist", progress=progress)
    return {name: pq.read_table(folder / f"{name}.parquet") for name in ("train", "test")}


def write_digits(tables: Mapping[str, pa.Table], folder: Path) -> dict[str, BatchDataset]:
    """Write each table as a data set of batches, its pixels as bytes."""
    return {
        name: write_batches(image_batches(table), folder / name, packed=True)
        for name, table in tables.items()
    }


def train_and_test(
    settings: TrainConfig, train: BatchDataset, test: BatchDataset, model: Path
) -> dict[str, Any]:
    """Train, save the model to a new folder, and return what it reaches on the test part."""

    def show(at: Progress) -> None:
        if at.step == at.steps:
            text = f"epoch {at.epoch}/{at.epochs}  loss {at.loss:.4f}"
            print(f"{text}  {at.examples_per_second:,.0f} examples/s", file=sys.stderr)

    result = Trainer(settings).fit(train, progress=show)
    result.save(model)
    metrics, _ = evaluate_class_model(result.predictor(), test)
    return {
        "model": str(model),
        "version": result.version,
        "train_loss": result.history[-1]["train_loss"],
        "seconds": sum(entry["seconds"] for entry in result.history),
        "test": metrics,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    arguments = _parser().parse_args(argv)
    try:
        told = _run(arguments)
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(told, indent=1) if arguments.json else _text(told))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.images", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/images"), help="a new folder")
    parser.add_argument(
        "--mnist", type=Path, help="folder with the whole set: mnist_train.npz, mnist_test.npz"
    )
    parser.add_argument("--config", type=Path, default=CONFIG, help="a TrainConfig as TOML")
    parser.add_argument("--workers", type=int, help="from two on they are Ray actors")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="on top of --config"
    )
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    out: Path = arguments.out
    if out.is_file() or (out.exists() and any(out.iterdir())):
        raise DataError(f"{out} is not empty: name another folder with --out, or remove it")
    overrides = list(arguments.set)
    if arguments.workers is not None:
        transport = "ray" if arguments.workers > 1 else "embedded"
        overrides = [f"num_workers={arguments.workers}", f"transport={transport}", *overrides]
    settings = load_config(TrainConfig, arguments.config, overrides)
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.writing")
    try:
        sets = write_digits(read_digits(arguments.mnist), aside)
        told = train_and_test(settings, sets["train"], sets["test"], aside / "model")
        os.rename(aside, out)  # all, or nothing
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sizes = {name: dataset.num_examples for name, dataset in sets.items()}
    return told | {"model": str(out / "model"), "workers": settings.num_workers, "examples": sizes}


def _text(told: Mapping[str, Any]) -> str:
    test = told["test"]
    return (
        f"{told['examples']['train']:,} digits, {told['workers']} workers, "
        f"{told['seconds']:.0f} s of training\n"
        f"test: accuracy {test['accuracy']:.4f}, log-loss {test['log_loss']:.4f}, "
        f"{test['examples']:,.0f} digits\n"
        f"model {told['version']}: {told['model']}"
    )


if __name__ == "__main__":
    sys.exit(main())
