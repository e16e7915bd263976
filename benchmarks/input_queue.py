"""How fast training can be fed, from TensorFlow 1's queues on, held to the disk's own bandwidth.

    python -m benchmarks.input_queue [--quick]

Weibo's engineers once found that TensorFlow's queues fed training at 1/467 of what the disk gives,
and pandas at 35 % of it. The same examples go here through such queues, tf.data, pandas, pyarrow,
polars and weiml, from every kind of file. A rate in rows counts as that many bytes of CSV, whatever
the file; the disk's bandwidth is measured in the same run, past the system's cache (O_DIRECT). The
full run draws docs/input-queue.png and writes docs/input-queue.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contest import Contestant, Result, contest
from benchmarks.harness import Case, run
from benchmarks.readers import prepare
from weiml.ps.checkpoint.direct import Rooms, is_cached, pieces_of

__all__ = ["Line", "draw", "readers"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
READERS, TENSORFLOW = "benchmarks.readers", "benchmarks.tensorflow_readers"
_MIB = 1 << 20


@dataclass(frozen=True)
class Line:
    """One reader: who it is, and how many of the rows it is given."""

    title: str
    family: str
    """TensorFlow 1, tf.data, pandas, pyarrow, polars, weiml."""
    module: str
    name: str
    rows: int | None = None
    """None: all of them; slower ones are stopped earlier."""
    options: tuple[str, ...] = ()

    def contestant(self, folder: Path) -> Contestant:
        """Return who takes part."""
        rows = () if self.rows is None else (str(self.rows),)
        return Contestant(self.module, self.name, (str(folder), *rows, *self.options))


def readers(rows: int) -> list[Line]:
    """Return all readers; `rows` are in the files."""
    few, some, many = min(rows, 12_800), min(rows, 40_960), min(rows, 409_600)

    def ours(title: str, name: str) -> Line:
        return Line(title, "weiml", READERS, name)

    return [
        Line("TF 1 queue, CSV, batch 128", "TensorFlow 1", TENSORFLOW, "queue_csv", few),
        Line("TF 1 queue, TFRecord, batch 128", "TensorFlow 1", TENSORFLOW, "queue_records", few),
        Line("tf.data, CSV by row, batch 512", "tf.data", TENSORFLOW, "data_rows", some),
        Line("tf.data, CSV, 4096 rows at once", "tf.data", TENSORFLOW, "data_vectors", many),
        Line("tf.data, TFRecord, 4096 at once", "tf.data", TENSORFLOW, "data_records", some),
        Line("pandas.read_csv, str, engine c", "pandas", READERS, "csv_pandas", None,
             ("str", "c", "0")),
        Line("pandas.read_csv, str, engine pyarrow", "pandas", READERS, "csv_pandas", None,
             ("str", "pyarrow", "0")),
        Line("pyarrow.csv", "pyarrow", READERS, "csv_pyarrow"),
        Line("polars.read_csv", "polars", READERS, "csv_polars", None, ("0",)),
        Line("polars.read_csv, hashed", "polars", READERS, "csv_polars", None, ("1",)),
        ours("weiml, CSV to hashed batches", "csv_weiml"),
        ours("weiml, Parquet of strings to hashed batches", "parquet_weiml"),
        ours("weiml, hashed Parquet", "keys_in_order"),
        ours("weiml, hashed Arrow, shuffled", "batches_shuffled"),
        ours("weiml, hashed Arrow", "batches_in_order"),
    ]  # fmt: skip


def disk_bandwidth(path: Path, seconds: float) -> float:
    """Return bytes a second that the disk gives of a file past the cache; the best of some reads.

    Raises:
        OSError: it cannot be read.
    """
    _drop(path)
    size = path.stat().st_size
    room = Rooms().take(size)
    best = 0.0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not best:
        begin = time.perf_counter()
        read = sum(len(piece) for piece in pieces_of(str(path), room))
        best = max(best, read / (time.perf_counter() - begin))
    if is_cached(str(path)):
        print("warning: the file was read through the system's cache", file=sys.stderr)
    return best


def _drop(path: Path) -> None:
    """Have the system write the file to the disk, and forget its pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cases(quick: bool) -> Iterator[Case]:
    rows = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        row_bytes = prepare(folder, rows)["bytes"] / rows
        # A file for the disk alone: reading those of the readers would push them out of the cache.
        plain = folder / "disk"
        plain.write_bytes(np.random.default_rng(0).bytes((64 if quick else 1024) * _MIB))
        disk = disk_bandwidth(plain, 1 if quick else 5)
        lines = readers(rows)
        if quick:  # each TensorFlow takes seconds to start
            lines = [line for line in lines if "TFRecord" not in line.title]
        else:
            _write_records(folder, 40_960)
        results = _measure(folder, lines, 1 if quick else 3)
    for line in lines:
        yield _case(line, results[line.title], row_bytes, disk, quick)
    if not quick:
        rates = {line.title: results[line.title].rate for line in lines}
        draw(lines, rates, row_bytes, disk, DOCS / "input-queue.png")
        (DOCS / "input-queue.md").write_text(page(lines, rates, row_bytes, disk))


def _write_records(folder: Path, rows: int) -> None:
    contest({"": Contestant(TENSORFLOW, "records", (str(folder), str(rows)))}, 1)


def _measure(folder: Path, lines: list[Line], rounds: int) -> dict[str, Result]:
    """Let families take turns among themselves; all of TensorFlow at once would fill the memory."""
    results: dict[str, Result] = {}
    for group in ("TensorFlow 1 tf.data", "pandas pyarrow polars weiml"):
        entries = {line.title: line.contestant(folder) for line in lines if line.family in group}
        results |= contest(entries, rounds)
    return results


def _case(line: Line, result: Result, row_bytes: float, disk: float, quick: bool) -> Case:
    rate = result.rate * row_bytes
    return Case(
        case=line.title,
        value=rate / 1e6,
        unit="MB/s of CSV",
        peer="the disk, past the cache",
        peer_value=disk / 1e6,
        goal="none: how much of the disk's bandwidth it uses",
        holds=True,
        quality=str(result),
        regime=f"{result.rows:,} rows a turn, {row_bytes:.0f} B of CSV each, files in the system's "
        f"cache, processes warm",
        n=len(result.seconds),
    )


def share(rate: float, disk: float) -> str:
    """Say how much of the disk's bandwidth a rate is.

    >>> share(1.0, 500.0), share(30.0, 100.0), share(300.0, 100.0)
    ('1/500', '30 %', '3.0 ×')
    """
    part = rate / disk
    if part < 0.1:
        return f"1/{1 / part:,.0f}"
    return f"{part:.0%}".replace("%", " %") if part < 1 else f"{part:.1f} ×"


def page(lines: list[Line], rates: Mapping[str, float], row_bytes: float, disk: float) -> str:
    """Return docs/input-queue.md."""
    table = "\n".join(
        f"| {line.title} | {rates[line.title]:,.0f} | {rates[line.title] * row_bytes / 1e6:,.1f} | "
        f"{share(rates[line.title] * row_bytes, disk)} |"
        for line in lines
    )
    return f"""# The input queue

When training starves, the disk is rarely to blame. Weibo's engineers found in TensorFlow 1's days
that its queues used 1/467 of the disk's bandwidth, and pandas 35 %. This page tells the story
again on one machine, in one run: the same generated clicks (label, 13 numbers, 26 categories,
{row_bytes:.0f} B of CSV a row), read by each reader from files in the system's cache, up to what
training takes: tensors, data frames or batches.

![Rates of readers, as bytes of CSV a second, and the disk's bandwidth](input-queue.png)

The disk gives {disk / 1e6:,.0f} MB/s, read past the cache (O_DIRECT) in the same run. A rate in
rows counts as so many bytes of CSV, also where the file is of another kind: that is what the
training gets on with.

| reader | rows/s | MB/s of CSV | of the disk's bandwidth |
|---|---:|---:|---:|
{table}

- Queues pay for each row: a step of the graph, a lock, a tensor of one. Batching does not help once
  the rows have been handled one by one.
- Text is dear for everybody. What is read more than once should be hashed once, and kept as batches
  (`weiml.data.write_batches`).
- weiml's lines end with hashed batches, those of polars with "hashed" with hashed columns; the
  others with strings, which are still to be hashed.

The machine and the versions are in the report of the same date in [reports](reports). To run it
again, which also draws the picture and writes this page:

```
python -m benchmarks.input_queue
```
"""


_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
_COLOURS = {
    "TensorFlow 1": "#b0413e",
    "tf.data": "#e08e45",
    "pandas": "#7a6f9b",
    "pyarrow": "#5b7f95",
    "polars": "#4f9d8f",
    "weiml": "#1f4e79",
}


def draw(
    lines: list[Line], rates: Mapping[str, float], row_bytes: float, disk: float, path: Path
) -> None:
    """Draw all rates as points on a logarithmic axis, the disk's bandwidth as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 6.4), layout="constrained")
    for place, line in enumerate(reversed(lines)):
        rate = rates[line.title] * row_bytes
        axes.plot(rate / 1e6, place, "o", color=_COLOURS[line.family], markersize=9)
        label = f"{rates[line.title]:,.0f} rows/s, {share(rate, disk)}"
        axes.text(rate / 1e6 * 1.25, place, label, va="center", fontsize=9, bbox=_PAPER)
    axes.set_yticks(range(len(lines)), [line.title for line in reversed(lines)])
    axes.axvline(disk / 1e6, color="black", linewidth=1, linestyle="--", zorder=0)
    told = f"the disk: {disk / 1e6:,.0f} MB/s  "
    axes.text(disk / 1e6, len(lines) - 0.35, told, ha="right", va="center")
    axes.set_title("What readers feed training with, as share of what the disk gives", loc="left")
    axes.grid(axis="y", linewidth=0.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    slowest = min(rates.values()) * row_bytes / 1e6
    fastest = max(*rates.values(), disk / row_bytes) * row_bytes / 1e6
    axes.set_xlim(slowest / 2, fastest * 60)
    axes.set_ylim(-0.6, len(lines) + 0.2)
    axes.set_xlabel("MB/s, counted as bytes of CSV (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the benchmark."""
    run("input_queue", cases)


if __name__ == "__main__":
    main()
