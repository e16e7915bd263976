"""From files to training batches: rows a second, beside pandas, polars and tf.data.

    [TMPDIR=FOLDER] python -m benchmarks.ingest [--quick] [--gib 40]

Generated clicks of Criteo's shape (label, 13 numbers, 26 categories of 8 hexadecimal digits, many
missing) lie in the system's cache, as files of each kind. Each reader is a process of its own that
is warm; they take turns. With --gib, that much data is written below TMPDIR, shuffled by runs of
parts and trained on in one pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contest import Contestant, Result, contest
from benchmarks.harness import Case, interleaved, run
from benchmarks.readers import prepare
from weiml.features import Batch, Cross, cross_blocks
from weiml.features.transforms import QuantileSketch

READERS, TENSORFLOW = "benchmarks.readers", "benchmarks.tensorflow_readers"
ROUNDS = 5
MOST_RESIDENT = 4 * 2**30


@dataclass(frozen=True)
class Data:
    """Where the files are, and what they hold."""

    folder: Path
    rows: int
    row_bytes: float
    quick: bool

    def reader(self, name: str, *arguments: str) -> Contestant:
        """Return a contestant of `benchmarks.readers`."""
        return Contestant(READERS, name, (str(self.folder), *arguments))

    @property
    def regime(self) -> str:
        """Say what was read, and where it lay."""
        return (
            f"{self.rows:,} rows of label, 13 numbers, 26 categories, {self.row_bytes:.0f} B of "
            f"CSV each; files in the system's cache, processes warm"
        )


def cases(quick: bool, gib: int) -> Iterator[Case]:
    rows = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        about = prepare(Path(folder), rows)
        data = Data(Path(folder), rows, about["bytes"] / rows, quick)
        for group in (from_csv, from_parquet, from_hashed):
            yield from group(data)
    yield crosses(quick)
    yield from quantiles(quick)
    yield larger_than_memory(0.25 if quick else gib)


def from_csv(data: Data) -> Iterator[Case]:
    """CSV to hashed batches."""
    ours = {"weiml": data.reader("csv_weiml")}
    fast = contest(ours | {"polars": data.reader("csv_polars")}, 3 if data.quick else ROUNDS)
    pandas = {
        "pandas, category": data.reader("csv_pandas", "category"),
        "pandas, str": data.reader("csv_pandas", "str"),
        "pandas, str, engine pyarrow": data.reader("csv_pandas", "str", "pyarrow"),
        "pandas, str, engine pyarrow, categorize=False": data.reader(
            "csv_pandas", "str", "pyarrow", "1", "0"
        ),
    }
    slow = contest(ours | pandas, 1 if data.quick else 3)
    some = str(min(data.rows, 40_960))
    rows = {"tf.data by row": Contestant(TENSORFLOW, "data_rows", (str(data.folder), some))}
    row = contest(ours | rows, 1 if data.quick else 3)
    yield compare("CSV", fast, "polars", 1.0, data)
    best = max(pandas, key=lambda name: slow[name].rate)
    others = "; ".join(f"{name}: {slow[name]}" for name in pandas)
    yield compare("CSV", slow, best, 3.0, data, quality=others)
    yield compare("CSV", row, "tf.data by row", 30.0, data)


def compare(
    case: str, results: dict[str, Result], peer: str, goal: float, data: Data, quality: str = ""
) -> Case:
    """Return the case of weiml beside a peer that took turns with it."""
    ours, theirs = results["weiml"], results[peer]
    return Case(
        case=f"{case} to hashed batches",
        value=ours.rate,
        unit="rows/s",
        peer=peer,
        peer_value=theirs.rate,
        goal=f"≥ {goal:g} × the peer",
        holds=ours.rate >= goal * theirs.rate,
        quality=f"weiml: {ours}; {quality or f'{peer}: {theirs}'}",
        regime=data.regime,
        n=len(ours.seconds),
    )


def from_parquet(data: Data) -> Iterator[Case]:
    """Parquet of strings to hashed batches."""
    entries = {"weiml": data.reader("parquet_weiml"), "polars": data.reader("parquet_polars")}
    results = contest(entries, 3 if data.quick else ROUNDS)
    yield alone("Parquet of strings to hashed batches", results["weiml"], 2e6, data,
                f"; polars, to hashed columns: {results['polars']}")  # fmt: skip


def from_hashed(data: Data) -> Iterator[Case]:
    """Hashed files to batches, in order and shuffled."""
    entries = {
        f"{kind}, batches of {size}": data.reader(name, size)
        for size in ("4096", "8192")
        for kind, name in (
            ("hashed Arrow in order", "batches_in_order"),
            ("hashed Arrow shuffled by runs of four parts", "batches_shuffled"),
            ("hashed Parquet in order", "keys_in_order"),
        )
    }
    for name, result in contest(entries, 3 if data.quick else ROUNDS).items():
        yield alone(name, result, 3e6 if "shuffled" in name else 4e6, data)


def alone(case: str, result: Result, goal: float, data: Data, quality: str = "") -> Case:
    """Return the case of a rate that has to reach a number."""
    return Case(
        case=case,
        value=result.rate,
        unit="rows/s",
        peer="the goal",
        peer_value=goal,
        goal=f"≥ {goal / 1e6:g} M rows/s",
        holds=result.rate >= goal,
        quality=f"{result}{quality}",
        regime=data.regime,
        n=len(result.seconds),
    )


def crosses(quick: bool) -> Case:
    """26 × 4 slots crossed as they are needed, on one core."""
    rng = np.random.default_rng(0)
    B, S = (8_192 if quick else 65_536), 30
    batch = Batch(
        labels=np.zeros((B, 1), np.float32),
        weights=np.ones(B, np.float32),
        dense=np.zeros((B, 0), np.float32),
        keys=rng.integers(1, 2**64, B * S, np.uint64),
        offsets=np.arange(B * S + 1, dtype=np.int32),
        groups=np.zeros(B, np.uint64),
        items=np.zeros(B, np.uint64),
        times=np.zeros(B, np.int64),
        slots=tuple(f"s{s}" for s in range(S)),
        dense_names=(),
    )
    pairs = [(f"s{a}", f"s{b}") for a in range(26) for b in range(26, 30)]
    wanted = [Cross(f"{a}-{b}", of=(a, b)) for a, b in pairs]

    def turn() -> None:
        for block in cross_blocks(batch, wanted):
            np.bitwise_xor.reduce(block.keys)

    keys = B * len(pairs)
    rate = keys / interleaved({"weiml": turn}, ROUNDS)["weiml"] / 1e6
    return Case(
        case="crosses on the fly, 26 × 4 slots",
        value=rate,
        unit="M crossed keys/s",
        peer="the goal",
        peer_value=20.0,
        goal="≥ 20 M crossed keys/s a core",
        holds=rate >= 20.0,
        quality="keys of weiml.features.with_crosses, each read once",
        regime=f"{B:,} examples, a key a slot, blocks of 1024 examples, one thread",
        n=ROUNDS,
    )


def quantiles(quick: bool) -> Iterator[Case]:
    """A sketch of numbers in two halves, by two workers, beside sorting them all."""
    n = 1_000_000 if quick else 10_000_000
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(n)
    for name, values in {
        "log-normal": rng.lognormal(0, 2, n),
        "heavy ties": np.floor(rng.lognormal(1, 1, n)),
    }.items():
        yield _quantiles(f"quantiles of {n:,} numbers, {name}", values, values[shuffled])


def _quantiles(case: str, values: np.ndarray, otherwise: np.ndarray) -> Case:
    def fit(given: np.ndarray) -> QuantileSketch:
        parts = (QuantileSketch(), QuantileSketch())
        with ThreadPoolExecutor(2) as workers:
            list(workers.map(QuantileSketch.add, parts, np.array_split(given, 2)))
        parts[0].merge(parts[1])
        return parts[0]

    q = np.linspace(0.001, 0.999, 999)
    seconds = interleaved(
        {"weiml": lambda: fit(values), "numpy": lambda: np.quantile(values, q)}, ROUNDS
    )
    sketch, ordered = fit(values), np.sort(values)
    found = sketch.quantiles(q)
    # A value holds all ranks from the first of its equals to the last.
    low, high = (np.searchsorted(ordered, found, side) / values.size for side in ("left", "right"))
    error = float(np.maximum(np.maximum(low - q, q - high), 0).max())
    whole = QuantileSketch()
    whole.add(otherwise)
    exact = sketch.to_bytes() == fit(otherwise).to_bytes() == whole.to_bytes()
    return Case(
        case=case,
        value=values.size / seconds["weiml"] / 1e6,
        unit="M numbers/s",
        peer="numpy.quantile, which sorts",
        peer_value=values.size / seconds["numpy"] / 1e6,
        goal="rank error ≤ 0.1 %, merge exact",
        holds=error <= 0.001 and exact,
        quality=f"largest rank error of 999 quantiles {error:.4%}; the same bytes in another order "
        f"and in one part: {exact}",
        regime="float64 in memory, two workers (threads), a sketch each, merged",
        n=ROUNDS,
    )


def larger_than_memory(gib: float) -> Case:
    """One shuffled pass over data on disk, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.out_of_core", "--gib", str(gib)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)
    complete = told["trained"] == told["examples"]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in told["stages"].items())
    return Case(
        case=f"{told['gib']:.1f} GiB of batches, shuffled by runs of parts, one pass of LR",
        value=told["peak_total"] / 2**30,
        unit="GiB resident",
        peer="the goal",
        peer_value=MOST_RESIDENT / 2**30,
        goal="≤ 4 GiB resident, pages of mapped files counted; every example trained on",
        holds=told["peak_total"] <= MOST_RESIDENT and complete,
        quality=f"{told['peak_anonymous'] / 2**30:.2f} GiB of it without a file behind; "
        f"{told['trained']:,} of {told['examples']:,} examples at "
        f"{told['trained'] / told['train_seconds']:,.0f}/s; progressive log-loss "
        f"{told['loss']:.4f}, the best possible {told['best_loss']:.4f}",
        regime=f"39 slots, 13 numbers; batches of 8192; written in {told['write_seconds']:.0f} s; "
        f"training {told['train_seconds']:.0f} s ({stages})",
        n=1,
    )


def main() -> None:
    """Run the benchmark."""
    run("ingest", cases, gib=2)


if __name__ == "__main__":
    main()
