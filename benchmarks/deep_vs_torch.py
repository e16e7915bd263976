"""Wide & Deep: weiml in process and through Ray, a careful PyTorch loop, DeepCTR-Torch.

    python -m benchmarks.deep_vs_torch [--quick] [--examples 491520]

26 slots of 100,000 ids each, embeddings of 16, 13 numbers, layers of 256, 128 and 64, batches of
4,096, all cores. weiml looks 64-bit keys up in hash tables that grow; the others index arrays of a
size told beforehand. All read examples that are in memory (weiml: in the system's cache).
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from benchmarks.deep_data import Examples, make_examples
from benchmarks.deep_peers import BATCH, DIM, HIDDEN, DeepCTR, PlainTorch
from benchmarks.harness import Case, interleaved, run
from weiml.cluster import start_ray
from weiml.data import BatchDataset
from weiml.models import Predictor, WideDeepConfig, log_loss
from weiml.ps import Adagrad
from weiml.train import StreamResult, StreamTrainer, TrainConfig, make_server, score_dataset

HELD_OUT = 40_960
ROUNDS = 5
MOST_LOSS = 0.003  # log-losses closer than this are called equal: seeds differ by as much


def configure(precision: str, **values: Any) -> TrainConfig:
    """Return weiml's configuration."""
    model = WideDeepConfig(
        embedding_dim=DIM,
        hidden=HIDDEN,
        precision=precision,  # type: ignore[arg-type]
        embedding=Adagrad(lr=0.02, initial_sum=1e-6),
        linear=Adagrad(lr=0.02, initial_sum=1e-6),
        multiplicity="sum",
    )
    return TrainConfig(model=model, batch_size=BATCH, progress_steps=1000, seed=1, **values)


@dataclass
class Ours:
    """weiml's pass over a data set; the server keeps what was learned."""

    trainer: StreamTrainer
    data: BatchDataset
    passes: list[StreamResult] = field(default_factory=list)

    def __call__(self) -> None:
        """Pass over the examples once."""
        self.passes.append(self.trainer.fit(self.data))

    def log_loss(self, examples: Examples) -> float:
        """Score examples by the model as it would be served."""
        with tempfile.TemporaryDirectory() as folder:
            predictor = Predictor.load(self.trainer.save(f"{folder}/model").path)
        return log_loss(examples.labels, score_dataset(predictor, examples.batch()))

    @property
    def stages(self) -> str:
        """Where the last pass spent its time."""
        seconds = self.passes[-1].seconds
        shares = sorted(self.passes[-1].stages.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {100 * s / seconds:.0f} %" for name, s in shares)


def compare(
    case: str, ours: Ours, peer: str, theirs: Any, held_out: Examples, goal: float, **about: Any
) -> Case:
    """Measure both after a first pass each, whose models are scored on held-out examples."""
    theirs_data = about["theirs_data"]
    ours()
    theirs()
    losses = ours.log_loss(held_out), theirs.log_loss(held_out)
    contestants: dict[str, Callable[[], object]] = {"ours": ours, "theirs": theirs}
    seconds = interleaved(contestants, about["rounds"])
    # From the first batch to the last tick: that processes are started is not in it.
    passes = [result.seconds for result in ours.passes[-about["rounds"] :]]
    value = ours.data.num_examples / statistics.median(passes)
    peer_value = theirs_data / seconds["theirs"]
    equal = losses[0] <= losses[1] + MOST_LOSS
    return Case(
        case=case,
        value=value,
        unit="examples/s",
        peer=peer,
        peer_value=peer_value,
        goal=f"≥ {goal:g} × at equal held-out log-loss",
        holds=value >= goal * peer_value and equal,
        quality=f"held-out log-loss after one pass {losses[0]:.4f}, peer {losses[1]:.4f}; "
        f"stages: {ours.stages}",
        regime=about["regime"],
        n=about["rounds"],
    )


def cases(quick: bool, examples: int) -> Iterator[Case]:
    """Compare in process at both precisions and with both laws of ids, then through Ray."""
    count = min(examples, 20 * BATCH) if quick else examples
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for law in ("Zipf-Mandelbrot", "uniform"):
            drawn = make_examples(count + HELD_OUT, uniform=law == "uniform")
            train, held_out = drawn.part(0, count), drawn.part(count, count + HELD_OUT)
            data = train.write(folder / law)
            common = {
                "rounds": 2 if quick else ROUNDS,
                "theirs_data": count,
                "regime": f"{count:,} examples, {law} ids, batches of {BATCH}, warm tables of up "
                "to 2.6 M rows, passes after the first",
            }
            for precision in ("float32", "bfloat16"):
                config = configure(precision)
                with make_server(config) as server:
                    ours = Ours(StreamTrainer(config, server), data)
                    peer = PlainTorch(train, half=precision == "bfloat16")
                    case = f"Wide & Deep in {precision}, in process, {law} ids"
                    name = f"PyTorch loop in {precision}"
                    yield compare(case, ours, name, peer, held_out, 1.6, **common)
            if law == "Zipf-Mandelbrot":
                yield from _others(train, data, held_out, **common)


def _others(
    train: Examples, data: BatchDataset, held_out: Examples, **common: Any
) -> Iterator[Case]:
    """Compare with DeepCTR-Torch, and through Ray with the PyTorch loop in one process."""
    few = {**common, "rounds": min(common["rounds"], 2)}
    for precision in ("float32", "bfloat16"):
        config = configure(precision)
        with make_server(config) as server:
            ours = Ours(StreamTrainer(config, server), data)
            case = f"Wide & Deep in {precision}, in process"
            name = "DeepCTR-Torch, which has float32 only"
            yield compare(case, ours, name, DeepCTR(train), held_out, 10.0, **few)
    start_ray(num_cpus=2)
    try:
        for precision, staleness in itertools.product(("float32", "bfloat16"), (0, 1)):
            threads = 2 if precision == "float32" else 1
            config = configure(
                precision, transport="ray", cpus_per_worker=1, threads=threads, staleness=staleness
            )
            clock = "SSP(1)" if staleness else "BSP"
            with make_server(config) as server:
                ours = Ours(StreamTrainer(config, server), data)
                peer = PlainTorch(train, half=precision == "bfloat16")
                case = f"Wide & Deep in {precision}, through Ray, 1 shard and 1 worker, {clock}"
                name = f"PyTorch loop in {precision}, one process"
                yield compare(case, ours, name, peer, held_out, 0.8, **common)
    finally:
        ray.shutdown()


def main() -> None:
    """Run the benchmark."""
    run("deep_vs_torch", cases, examples=120 * BATCH)


if __name__ == "__main__":
    main()
