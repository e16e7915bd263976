"""Data larger than memory: written to disk, shuffled by runs of parts, one pass of training.

    python -m benchmarks.out_of_core --gib 40 --folder FOLDER

Generates clicks, hashes them and writes that many GiB of batches below FOLDER, which must have the
room; trains logistic regression by FTRL on all of them in one shuffled pass; prints one line of
JSON and removes what it wrote. Resident memory is sampled from /proc while it trains: all of it,
which counts pages of mapped files, and the part that no file stands behind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.contest import memory
from benchmarks.readers import spec
from weiml.data import BatchDataset, BestScores, ClickGenerator, ClicksConfig, write_batches
from weiml.data.ordered import map_ordered
from weiml.features import Batch, FeatureEncoder
from weiml.models import LogisticRegressionConfig
from weiml.ps import FTRL, EmbeddedParameterServer
from weiml.train import StreamTrainer, TrainConfig

__all__ = ["measure"]

PART = 1 << 16
BYTES_PER_EXAMPLE = 401
"""39 keys, 13 float32, label, weight, group, item, time, and where the keys begin."""
BATCH = 8192
_SAMPLE_S = 0.02
_SHOWN_EVERY = 100


class Sampler:
    """Watches this process's memory from a thread of its own."""

    def __init__(self) -> None:
        self.total = self.anonymous = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self.total = max(self.total, memory("VmRSS"))
            self.anonymous = max(self.anonymous, memory("RssAnon"))


def measure(gib: float, folder: Path) -> dict[str, Any]:
    """Write, train and measure; what is written is removed."""
    parts = max(int(gib * 2**30 / BYTES_PER_EXAMPLE / PART), 1)
    generator = ClickGenerator(ClicksConfig(rows=parts * PART))
    with tempfile.TemporaryDirectory(prefix="weiml-out-of-core-", dir=folder) as scratch:
        best = BestScores()
        begin = time.perf_counter()
        dataset = write_batches(_batches(generator, best), Path(scratch) / "clicks")
        wrote = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in dataset.folder.iterdir())
        with Sampler() as seen:
            begin = time.perf_counter()
            result = _train(dataset)
            seconds = time.perf_counter() - begin
    return {
        "gib": size / 2**30,
        "examples": generator.config.rows,
        "write_seconds": wrote,
        "train_seconds": seconds,
        "trained": result.examples,
        "loss": result.loss,
        "best_loss": best.log_loss,
        "stages": result.stages,
        "peak_total": seen.total,
        "peak_anonymous": seen.anonymous,
    }


def _batches(generator: ClickGenerator, best: BestScores) -> Iterator[Batch]:
    rows = generator.config.rows
    encoder = FeatureEncoder(spec(buckets=20)).fit(generator.examples(0, PART))

    def encoded(start: int) -> tuple[Batch, Any]:
        table = generator.examples(start, start + PART)
        return encoder.encode(table), table["probability"].to_numpy()

    for batch, probability in map_ordered(encoded, range(0, rows, PART), threads=2):
        best.add(probability)
        if best.examples // PART % _SHOWN_EVERY == 0:
            print(f"wrote {best.examples:,} of {rows:,} examples", file=sys.stderr)
        yield batch


def _train(dataset: BatchDataset) -> Any:
    config = TrainConfig(
        model=LogisticRegressionConfig(optimizer=FTRL(alpha=0.05, beta=1.0, l1=0.0, l2=1.0)),
        batch_size=BATCH,
        progress_steps=1000,
    )

    def show(so_far: Any) -> None:
        rate = so_far.examples_per_second
        print(f"trained {so_far.examples:,} examples, {rate:,.0f}/s", file=sys.stderr)

    with EmbeddedParameterServer(num_buckets=64) as server:
        return StreamTrainer(config, server).fit(dataset.iter_batches(BATCH, seed=1), progress=show)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.out_of_core")
    parser.add_argument("--gib", type=float, required=True)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.gib, arguments.folder)))


if __name__ == "__main__":
    main()
