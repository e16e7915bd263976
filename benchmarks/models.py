"""Training steps of every network over embeddings: examples a second, and the wait for input.

    python -m benchmarks.models [--quick] [--batches 32]

Generated clicks of Criteo's shape, 26 slots and 13 dense columns, with a history of 20 ids and a
second label beside them, are encoded and written once, and read by each model's trainer from disk.
Models have their own defaults, embeddings of 16; tables are in process; networks compute on all
cores. The peer is the plain network, `dnn`, in the same run.
With --quick a pass is two steps, so that the wait for the first batch weighs much.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import Case, interleaved, run
from weiml.data import BatchDataset, write_batches
from weiml.data.datasets import ClickGenerator, ClicksConfig
from weiml.data.datasets.clicks import CATEGORIES, NUMBERS
from weiml.features import Categorical, Continuous, FeatureEncoder, FeatureSpec, Sequence
from weiml.features.transforms import SignedLog
from weiml.features.types import Feature
from weiml.models import MODELS, model_class
from weiml.models.deep import DeepModel
from weiml.train import StreamResult, StreamTrainer, TrainConfig, make_server

BATCH_SIZE = 4096
MOST_WAITING = 0.02
HISTORY = 20  # ids
_ATTENDED = {"sequences": ["history"], "targets": ["C10"]}
_TASKS = {"tasks": ["label", "sale"]}
OPTIONS: dict[str, dict[str, Any]] = {
    "bst": _ATTENDED,
    "dien": _ATTENDED,
    "din": _ATTENDED,
    "esmm": _TASKS,
    "ffm": {"embedding_dim": 4},  # a row holds as many for every slot
    "mmoe": _TASKS,
    "ple": _TASKS,
    "shared_bottom": _TASKS,
    "two_tower": {
        "user_slots": [*CATEGORIES[:13], "history"],
        "item_slots": list(CATEGORIES[13:]),
        "item_dense": list(NUMBERS[6:]),
    },
}
"""What a model needs beside its defaults, by its name."""


@dataclass
class Contestant:
    """A model that passes over the data as often as it is asked."""

    trainer: StreamTrainer
    data: BatchDataset
    passes: list[StreamResult] = field(default_factory=list)

    def turn(self) -> None:
        """Train on all examples once."""
        self.passes.append(self.trainer.fit(self.data))

    @property
    def waiting(self) -> float:
        """Share of the seconds after the first pass in which the steps waited for a batch."""
        seconds = sum(result.seconds for result in self.passes[1:])
        return sum(result.stages.get("read", 0.0) for result in self.passes[1:]) / seconds

    @property
    def quality(self) -> str:
        """Where the time went, and what was learned."""
        assert self.trainer.model is not None
        stages: dict[str, float] = {}
        for result in self.passes[1:]:
            for stage, seconds in result.stages.items():
                stages[stage] = stages.get(stage, 0.0) + seconds
        seconds = sum(result.seconds for result in self.passes[1:])
        shares = ", ".join(f"{name} {100 * s / seconds:.1f} %" for name, s in stages.items())
        return (
            f"waiting for input {100 * self.waiting:.2f} % of the time; stages: {shares}; "
            f"{self.trainer.model.dense_vector().size:,} numbers of the network; log-loss of the "
            f"first pass {self.passes[0].loss:.4f}"
        )


def clicks(folder: Path, examples: int) -> BatchDataset:
    """Write generated clicks as batches."""
    features: list[Feature] = [Categorical(name) for name in CATEGORIES]
    features += [Sequence("history", max_length=HISTORY, ids_of="C10")]
    features += [Continuous(name) for name in NUMBERS]
    logs = tuple(SignedLog(name) for name in NUMBERS)
    spec = FeatureSpec(
        features=tuple(features),
        transforms=logs,
        labels=("label", "sale"),
        group="C1",
        item="C2",
    )
    generator = ClickGenerator(ClicksConfig(rows=examples, seed=1))
    rng = np.random.default_rng(1)
    encoder = FeatureEncoder(spec).fit(
        _extended(generator.examples(0, min(examples, 1 << 15)), rng)
    )
    blocks = (_extended(block, rng) for block in generator.blocks())
    write_batches((encoder.encode(block) for block in blocks), folder)
    return BatchDataset.open(folder)


def _extended(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Add a history of ids as C10 has them, and sales among the clicks."""
    n = table.num_rows
    ids = table["C10"].combine_chunks().fill_null("none").take(rng.integers(0, n, HISTORY * n))
    offsets = pa.array(np.arange(0, HISTORY * n + 1, HISTORY), pa.int32())
    table = table.append_column("history", pa.ListArray.from_arrays(offsets, ids))
    sale = table["label"].to_numpy() * (rng.random(n) < 0.3)
    return table.append_column("sale", pa.array(sale.astype(np.int8)))


def deep_models() -> list[str]:
    """Return the names of the networks over embeddings, the peer first."""
    names = [name for name in sorted(MODELS) if issubclass(model_class(name), DeepModel)]
    return ["dnn", *(name for name in names if name != "dnn")]


def cases(quick: bool, batches: int) -> Iterator[Case]:
    """Let the models pass over the data in turns."""
    count = min(batches, 2) if quick else batches
    rounds = 1 if quick else 3
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = clicks(folder / "clicks", count * BATCH_SIZE)
        contestants = {}
        for name in deep_models():
            model = {"name": name, "embedding_dim": 16, **OPTIONS.get(name, {})}
            config = TrainConfig(model=model, batch_size=BATCH_SIZE)  # type: ignore[arg-type]
            server = stack.enter_context(make_server(config))
            contestants[name] = Contestant(StreamTrainer(config, server), data)
        turns = {name: contestant.turn for name, contestant in contestants.items()}
        seconds = interleaved(turns, rounds)
        threads = config.threads_of_worker
        for name, contestant in contestants.items():
            yield Case(
                case=f"training steps of {name}",
                value=data.num_examples / seconds[name],
                unit="examples/s",
                peer="dnn",
                peer_value=data.num_examples / seconds["dnn"],
                goal=f"≤ {100 * MOST_WAITING:g} % of the time waiting for input",
                holds=contestant.waiting <= MOST_WAITING,
                quality=contestant.quality,
                regime="embedded, 26 slots and a history × 16 and 13 dense columns, batches of "
                f"{BATCH_SIZE}, {threads} threads, float32, {data.num_examples:,} examples read "
                "from Arrow in the system's cache, passes after the first",
                n=rounds,
            )


def main() -> None:
    """Run the benchmark."""
    run("models", cases, batches=32)


if __name__ == "__main__":
    main()
