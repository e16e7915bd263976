"""Logistic regression by FTRL from Parquet to trained, in one process, beside Vowpal Wabbit.

    python -m benchmarks.lr_vs_vw [--quick]

Ours decodes the Parquet while it trains (two threads); VW reads the binary cache that it made of
the same examples (two threads as well). Losses are progressive: each example is predicted before it
is learned. VW is told how large its table must be (-b, 2²⁶ weights for 5.7 million keys); ours runs
told the number of keys (`expected_rows`), and with a table that grows as rows come.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Case, interleaved, run
from benchmarks.vowpal import VowpalWabbit
from benchmarks.zipf import FLAT, STEEP, Clicks, Law
from weiml.data import ParquetKeys
from weiml.models import LogisticRegressionConfig
from weiml.ps import FTRL, EmbeddedParameterServer
from weiml.train import StreamResult, StreamTrainer, TrainConfig

RULE = FTRL(alpha=0.1, beta=1.0, l1=0.0, l2=0.0)
BUCKETS = 64
"""Units of placement: one shard in one process needs few."""
GOAL = 3.0
TOLERANCE = 0.001


class Ours:
    """Trains from nothing at each call."""

    def __init__(self, parquet: Path, expected_rows: int) -> None:
        self._parquet = parquet
        self._config = TrainConfig(
            model=LogisticRegressionConfig(optimizer=RULE, expected_rows=expected_rows),
            batch_size=16_384,
            progress_steps=10**9,
        )
        self.result: StreamResult | None = None

    def __call__(self) -> None:
        """Train on an empty embedded server."""
        with EmbeddedParameterServer(num_buckets=BUCKETS) as server:
            self.result = StreamTrainer(self._config, server).fit(ParquetKeys(self._parquet))


def cases(quick: bool) -> Iterator[Case]:
    """Compare on keys that repeat a lot and on keys that do not."""
    examples, rounds = (100_000, 3) if quick else (1_000_000, 5)
    for law, bits in ((STEEP, 24), (FLAT, 26)):
        with tempfile.TemporaryDirectory() as folder:
            clicks = Clicks.write(Path(folder), examples, law, bits=bits)
            yield from compare(clicks, law, bits, rounds)


def compare(clicks: Clicks, law: Law, bits: int, rounds: int) -> Iterator[Case]:
    """Let VW have the faster of its rates and the better of its losses."""
    assert clicks.text is not None
    ours = {
        "table told its size": Ours(clicks.parquet, clicks.keys),
        "table that grows": Ours(clicks.parquet, 0),
    }
    theirs = VowpalWabbit.contestants(clicks.text, bits)
    contestants: dict[str, Callable[[], object]] = {**ours}
    contestants |= {peer.name: peer for peer in theirs}
    seconds = interleaved(contestants, rounds)
    rates = {name: clicks.examples / took for name, took in seconds.items()}
    fastest = max((peer.name for peer in theirs), key=lambda name: rates[name])
    best = min(peer.loss for peer in theirs)
    others = "; ".join(
        f"{peer.name}: {peer.loss:.4f}, {rates[peer.name]:,.0f}/s" for peer in theirs
    )
    for name, one in ours.items():
        assert one.result is not None
        loss = one.result.loss
        stages = ", ".join(f"{stage} {took:.2f} s" for stage, took in one.result.stages.items())
        yield Case(
            case=f"one pass, exponent {law.exponent:g}, {name}",
            value=rates[name],
            unit="examples/s",
            peer=fastest,
            peer_value=rates[fastest],
            goal=f"≥ {GOAL:g} × VW, progressive log-loss ≤ VW's best + {TOLERANCE:g}",
            holds=rates[name] >= GOAL * rates[fastest] and loss <= best + TOLERANCE,
            quality=f"progressive log-loss {loss:.4f} (true model {clicks.noise:.4f}); {others}",
            regime=f"{clicks.examples:,} examples x 39 slots, {law}, {clicks.keys:,} distinct "
            f"keys; Parquet of uint64 columns in page cache, table empty at the start; ours in "
            f"{BUCKETS} buckets, last run: {stages} (prepare beside the others, in the reading "
            f"thread)",
            n=rounds,
        )


def main() -> None:
    """Run the benchmark."""
    run("lr_vs_vw", cases)


if __name__ == "__main__":
    main()
