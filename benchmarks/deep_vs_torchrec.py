"""Wide & Deep: weiml in process beside FBGEMM's fused tables, on which TorchRec runs on CPUs.

    python -m benchmarks.deep_vs_torchrec [--quick] [--examples 491520]

The model, the examples and the way of measuring are those of `benchmarks.deep_vs_torch`. The tables
of FBGEMM update their rows in the backward pass by exact row-wise Adagrad, one number a row, where
weiml keeps one a weight.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.deep_data import make_examples
from benchmarks.deep_peers import BATCH, TorchRec
from benchmarks.deep_vs_torch import HELD_OUT, ROUNDS, Ours, compare, configure
from benchmarks.harness import Case, run
from weiml.train import StreamTrainer, make_server


def cases(quick: bool, examples: int) -> Iterator[Case]:
    """Compare at both precisions."""
    count = min(examples, 20 * BATCH) if quick else examples
    drawn = make_examples(count + HELD_OUT)
    train, held_out = drawn.part(0, count), drawn.part(count, count + HELD_OUT)
    with tempfile.TemporaryDirectory() as folder:
        data = train.write(Path(folder) / "train")
        for precision in ("float32", "bfloat16"):
            config = configure(precision)
            with make_server(config) as server:
                yield compare(
                    f"Wide & Deep in {precision}, in process",
                    Ours(StreamTrainer(config, server), data),
                    f"FBGEMM's fused tables and PyTorch in {precision}",
                    TorchRec(train, half=precision == "bfloat16"),
                    held_out,
                    1.0,
                    rounds=2 if quick else ROUNDS,
                    theirs_data=count,
                    regime=f"{count:,} examples, Zipf-Mandelbrot ids, batches of {BATCH}, warm "
                    "tables of up to 2.6 M rows, passes after the first",
                )


def main() -> None:
    """Run the benchmark."""
    run("deep_vs_torchrec", cases, examples=120 * BATCH)


if __name__ == "__main__":
    main()
