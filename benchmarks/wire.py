"""Bytes between workers and parameter servers: `WireConfig` beside plain float32 keys and values.

    python -m benchmarks.wire [--quick]

Two workers take turns on two shards without a bound on staleness, each with a wire of its own, on
generated clicks of 39 Zipf slots. Logistic regression pulls FTRL's state and pushes differences of
it; Wide & Deep pulls weights and pushes gradients of an embedding of dim 16 (Adagrad) and of linear
weights (FTRL). Bytes are those of all keys and rows, there and back, what `flush` sends at the end
included; the processes' own overhead, and the dense part, which travels elsewhere, are not. The
plain run is the same training with 8 bytes a key and 4 a number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from benchmarks.harness import Case, run
from benchmarks.zipf import FLAT, STEEP, Clicks, Law
from weiml.data import ParquetKeys
from weiml.features import Batch
from weiml.models import (
    Columns,
    LogisticRegression,
    LogisticRegressionConfig,
    Model,
    Rows,
    WideDeep,
    WideDeepConfig,
)
from weiml.ps import FTRL, EmbeddedParameterServer, unique_keys
from weiml.ps.wire import WireConfig

WORKERS = 2
SHARDS = 2
GOAL = 3.0
TOLERANCE = 0.001
HELD_OUT = 50_000
PLAIN = WireConfig()
KEYS: dict[str, Any] = {
    "keys": "packed",
    "key_cache_mib": 64.0,
    "dictionary_keys": 1 << 24,
    "omit_new": True,
}
ROWS: dict[str, Any] = {"feedback_rows": 1 << 23}
WIRES = {
    "packed keys, no new rows": WireConfig(**KEYS),
    "bfloat16": WireConfig(pull="bfloat16", push="bfloat16", **KEYS, **ROWS),
    "int8": WireConfig(pull="int8", push="int8", **KEYS, **ROWS),
    "int8, the larger half of the rows": WireConfig(
        pull="int8", push="int8", push_fraction=0.5, **KEYS, **ROWS
    ),
}
JUDGED = "int8"
"""The wire that has to save as much as the goal says; the others show what each part of it does."""


@dataclass(frozen=True)
class Trained:
    """What one run sent and learned."""

    nbytes: int
    examples: int
    steps: int
    progressive: float
    held_out: float

    @property
    def examples_per_mib(self) -> float:
        """How far a MiB goes."""
        return self.examples / self.nbytes * 2**20

    @property
    def mib_a_step(self) -> float:
        """What a worker's step sends and receives."""
        return self.nbytes / self.steps / 2**20


def logistic_regression(columns: Columns, rank: int) -> Model:
    rule = FTRL(alpha=0.1, beta=1.0, l1=0.0, l2=0.0)
    return LogisticRegression(LogisticRegressionConfig(optimizer=rule), columns, rank=rank)


def wide_deep(columns: Columns, rank: int) -> Model:
    config = WideDeepConfig(embedding_dim=16, hidden=(64, 32), multiplicity="sqrt")
    return WideDeep(config, columns, rank=rank)


class Contestant(NamedTuple):
    """A model and how much it trains on."""

    name: str
    make: Callable[[Columns, int], Model]
    batch_size: int
    examples: int
    quick: int
    """Examples of a quick run."""


CONTESTANTS = (
    Contestant("logistic regression", logistic_regression, 16_384, 2_000_000, 500_000),
    Contestant("wide & deep", wide_deep, 4096, 600_000, 160_000),
)


def train(
    contestant: Contestant, source: ParquetKeys, held_out: ParquetKeys, wire: WireConfig
) -> Trained:
    """One pass over `source`."""
    columns = Columns(slots=source.slots, dense_names=source.dense_names)
    models = [contestant.make(columns, rank) for rank in range(WORKERS)]
    with EmbeddedParameterServer(SHARDS, WORKERS, None) as server:
        for table in models[0].tables():
            server.create_table(table)
        clients = [server.client(worker, wire=wire) for worker in range(WORKERS)]
        parts = [
            source.iter_batches(contestant.batch_size, worker=worker, num_workers=WORKERS)
            for worker in range(WORKERS)
        ]
        loss = weight = 0.0
        steps = 0
        for batches in zip(*parts, strict=False):
            for result in _step(models, clients, batches):
                loss, weight, steps = loss + result.loss, weight + result.weight, steps + 1
        for client in clients:
            client.finish()
        nbytes = sum(c.counts["bytes_sent"] + c.counts["bytes_received"] for c in clients)
        return Trained(
            nbytes, int(weight), steps, loss / weight, _held_out_loss(models[0], server, held_out)
        )


def _step(models: list[Model], clients: list[Any], batches: tuple[Batch, ...]) -> list[Any]:
    """Take a step of each worker; dense gradients are averaged."""
    results, waiting = [], []
    for model, client, batch in zip(models, clients, batches, strict=True):
        step = model.step(client, batch)
        try:
            waiting.append((step, next(step)))
        except StopIteration as stop:
            results.append(stop.value)
    if waiting:
        mean = np.mean([gradient for _, gradient in waiting], axis=0)
        for step, _ in waiting:
            try:
                step.send(mean)
            except StopIteration as stop:
                results.append(stop.value)
    for client in clients:
        client.tick()
    return results


def _held_out_loss(model: Model, server: EmbeddedParameterServer, source: ParquetKeys) -> float:
    client = server.client()
    total = 0.0
    for batch in source.iter_batches(8192):
        distinct, positions = unique_keys(next(iter(model.keys(batch).values())))
        rows = {
            table.name: Rows(client.wait(client.pull(table.name, distinct)), positions)
            for table in model.tables()
        }
        logits = model.logits(batch, rows).astype(np.float64)
        total += float((np.logaddexp(0, logits) - batch.labels[:, 0] * logits).sum())
    return total / source.num_examples


def cases(quick: bool) -> Iterator[Case]:
    """Train each model plainly, then with each wire, on the same examples in the same order."""
    with tempfile.TemporaryDirectory() as folder:
        for law in (STEEP,) if quick else (STEEP, FLAT):
            most = max(c.quick if quick else c.examples for c in CONTESTANTS)
            clicks = Clicks.write(Path(folder) / "train", most, law)
            held = Clicks.write(Path(folder) / "held out", HELD_OUT, law, seed=1)
            for contestant in CONTESTANTS:
                size = contestant.quick if quick else contestant.examples
                source = _first(clicks, size, Path(folder) / "part.parquet")
                yield from compare(contestant, law, source, ParquetKeys(held.parquet))


def _first(clicks: Clicks, size: int, path: Path) -> ParquetKeys:
    """Return the first `size` examples."""
    pq.write_table(pq.read_table(clicks.parquet).slice(0, size), path)
    return ParquetKeys(path)


def compare(
    contestant: Contestant, law: Law, source: ParquetKeys, held_out: ParquetKeys
) -> Iterator[Case]:
    """Train plainly and with each wire."""
    plain = train(contestant, source, held_out, PLAIN)
    for label, wire in WIRES.items():
        small = train(contestant, source, held_out, wire)
        worse = max(
            small.progressive - plain.progressive,
            small.held_out - plain.held_out,
        )
        fewer = plain.nbytes / small.nbytes * small.examples / plain.examples
        bar = f"≥ {GOAL:g} × fewer bytes, " if label == JUDGED else ""
        yield Case(
            case=f"{contestant.name}, {label}, exponent {law.exponent:g}",
            value=small.examples_per_mib,
            unit="examples/MiB",
            peer="float32 rows and 8-byte keys",
            peer_value=plain.examples_per_mib,
            goal=f"{bar}log-losses within {TOLERANCE:g}",
            holds=worse <= TOLERANCE and (not bar or fewer >= GOAL),
            quality=f"progressive log-loss {small.progressive:.5f}, plain {plain.progressive:.5f}; "
            f"held out {small.held_out:.5f}, plain {plain.held_out:.5f}",
            regime=f"{small.mib_a_step:.3f} MiB a step of {contestant.batch_size}, plain "
            f"{plain.mib_a_step:.3f}; {source.num_examples:,} examples, {len(source.slots)} slots, "
            f"{law}; {WORKERS} workers in turns, {SHARDS} shards, ASP, tables empty at the start",
            n=1,
        )


def main() -> None:
    """Run the benchmark."""
    run("wire", cases)


if __name__ == "__main__":
    main()
