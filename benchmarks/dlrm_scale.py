"""A network over embeddings whose table has 100 million rows, beside one of a million.

    python -m benchmarks.dlrm_scale [--quick] [--rows 100_000_000]

26 slots of 16, 13 numbers, batches of 4,096; keys are uniform over the table, so that nearly every
row comes from memory. All rows are there before the clock starts. 100 million rows take 16 GiB.
"""

from __future__ import annotations

import gc
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.harness import Case, run
from weiml.data import BatchDataset, write_batches
from weiml.features import Batch
from weiml.models import DNNConfig
from weiml.models.deep.sparse import EMBEDDING
from weiml.ps import EmbeddedParameterServer
from weiml.train import StreamTrainer, TrainConfig

SLOTS, DENSE, DIM, BATCH = 26, 13, 16, 4096
FEW = 1_000_000
GOAL = 0.5
_CHUNK = 1 << 20


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return keys uint64 of numbers from 1 on, spread over all of 64 bits (SplitMix64)."""
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def examples(count: int, rows: int, folder: Path) -> BatchDataset:
    """Write examples with one uniform key a slot of `rows` in all."""
    rng = np.random.default_rng(rows)
    per_slot = rows // SLOTS
    ids = rng.integers(0, per_slot, (count, SLOTS)) + np.arange(SLOTS) * per_slot + 1
    nobody = np.zeros(count, np.uint64)
    batch = Batch(
        labels=(rng.random((count, 1)) < 0.3).astype(np.float32),
        weights=np.ones(count, np.float32),
        dense=rng.random((count, DENSE)).astype(np.float32),
        keys=mixed(ids).reshape(-1),
        offsets=np.arange(count * SLOTS + 1, dtype=np.int32),
        groups=nobody,
        items=nobody,
        times=np.zeros(count, np.int64),
        slots=tuple(f"c{slot}" for slot in range(SLOTS)),
        dense_names=tuple(f"i{column}" for column in range(DENSE)),
    )
    return write_batches([batch], folder)


def rate(rows: int, count: int, passes: int, folder: Path) -> tuple[float, float, str]:
    """Return examples/s (median of passes), the log-loss of the last, and what the table takes."""
    data = examples(count, rows, folder)
    model = DNNConfig(embedding_dim=DIM, expected_rows=rows)
    config = TrainConfig(model=model, batch_size=BATCH, num_shards=2, progress_steps=1000)
    with EmbeddedParameterServer(2) as server:
        trainer = StreamTrainer(config, server)
        trainer.fit(data)  # makes the table
        client = server.client()
        for first in range(1, rows + 1, _CHUNK):
            keys = mixed(np.arange(first, min(first + _CHUNK, rows + 1)))
            client.wait(client.push(EMBEDDING, keys, np.full((keys.size, DIM), 1e-6, np.float32)))
        found = server.status()["tables"][EMBEDDING]
        size = server.status()["bytes"] / 2**30
        results = [trainer.fit(data) for _ in range(passes)]
    return (
        median(result.examples_per_second for result in results),
        results[-1].loss,
        f"{found:,} rows in {size:.1f} GiB",
    )


def cases(quick: bool, rows: int) -> Iterator[Case]:
    """Measure the small table, then the large one."""
    rows = min(rows, 4 * FEW) if quick else rows
    count, passes = (8 * BATCH, 2) if quick else (40 * BATCH, 5)
    with tempfile.TemporaryDirectory() as folder:
        few, few_loss, few_size = rate(FEW, count, passes, Path(folder) / "few")
        gc.collect()
        many, many_loss, many_size = rate(rows, count, passes, Path(folder) / "many")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield Case(
        case=f"a network over {rows:,} rows of {DIM}",
        value=many,
        unit="examples/s",
        peer=f"the same over {FEW:,} rows",
        peer_value=few,
        goal=f"≥ {GOAL:g} × the rate of a million rows",
        holds=many >= GOAL * few,
        quality=f"{many_size} and {few_size}; {peak:.1f} GiB resident at most; progressive "
        f"log-loss {many_loss:.4f} and {few_loss:.4f} (labels are drawn without a model)",
        regime=f"embedded, 2 shards, {SLOTS} uniform keys an example, cold rows, batches of "
        f"{BATCH}, {count:,} examples",
        n=passes,
    )


def main() -> None:
    """Run the benchmark."""
    run("dlrm_scale", cases, rows=100_000_000)


if __name__ == "__main__":
    main()
