"""Write generated clicks with known probabilities to files, as many as the disk holds.

    python -m benchmarks.generate --rows 1_000_000 --format csv --out FOLDER [--days 7]

Parts appear under their names only when they are whole; run again after an interruption, it goes
on with those that are missing. Beside them, in ``clicks.json``: the configuration, sizes, click
rate, and the best log-loss and AUC that any model can reach.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from weiml.config import to_mapping
from weiml.data import BestScores, ClickGenerator, ClicksConfig
from weiml.data.ordered import map_ordered
from weiml.errors import DataError

__all__ = ["generate"]

_BLOCK = 1 << 16
_TRUTH = ("timestamp", "probability")


def generate(
    config: ClicksConfig,
    folder: Path,
    kind: str,
    *,
    rows_per_part: int = 1_000_000,
    truth: bool = True,
    threads: int = 2,
) -> dict[str, Any]:
    """Write what is missing of a data set; return what stands in its ``clicks.json``.

    Args:
        config: how many examples and which.
        folder: made if it does not exist.
        kind: ``csv`` (with a header) or ``parquet``.
        rows_per_part: examples in a file.
        truth: whether the time and the true probability are columns too.
        threads: parts that are made at the same time.

    Raises:
        DataError: the folder holds parts of another data set.
    """
    plan = {**to_mapping(config), "format": kind, "rows_per_part": rows_per_part, "truth": truth}
    _claim(folder, plan)
    generator = ClickGenerator(config)
    names = [n for n in generator.schema.names if truth or n not in _TRUTH]
    starts = range(0, config.rows, rows_per_part)
    part = partial(_part, generator, folder, kind, names, rows_per_part)
    best = BestScores()
    sizes = {}
    begin = time.perf_counter()
    for path, scores in map_ordered(part, starts, threads=threads):
        best.merge(scores)
        sizes[path.name] = path.stat().st_size
        rate = best.examples / (time.perf_counter() - begin)
        print(f"{best.examples:,} of {config.rows:,} examples, {rate:,.0f}/s", file=sys.stderr)
    about = {
        **plan,
        "click_rate": best.click_rate,
        "best_log_loss": best.log_loss,
        "best_auc": best.auc,
        "bytes": sum(sizes.values()),
        "parts": sizes,
    }
    _write_json(folder / "clicks.json", about)
    return about


def _claim(folder: Path, plan: dict[str, Any]) -> None:
    """Note in the folder what is written to it, or make sure that it is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "plan.json"
    if note.exists():
        known = json.loads(note.read_text(encoding="utf-8"))
        if known != plan:
            raise DataError(f"{folder} holds another data set, {known}: choose a new folder")
    else:
        _write_json(note, plan)


def _part(
    generator: ClickGenerator,
    folder: Path,
    kind: str,
    names: list[str],
    rows_per_part: int,
    start: int,
) -> tuple[Path, BestScores]:
    stop = min(start + rows_per_part, generator.config.rows)
    path = folder / f"part-{start // rows_per_part:05d}.{kind}"
    best = BestScores()
    if path.exists():
        for at in range(start, stop, _BLOCK):
            best.add(generator.probabilities(at, min(at + _BLOCK, stop)))
        return path, best
    aside = folder / f".{path.name}.{os.getpid()}.writing"
    try:
        _write(_counted(generator, start, stop, best), aside, kind, names)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    return path, best


def _counted(
    generator: ClickGenerator, start: int, stop: int, best: BestScores
) -> Iterator[pa.Table]:
    for at in range(start, stop, _BLOCK):
        table = generator.examples(at, min(at + _BLOCK, stop))
        best.add(table["probability"].to_numpy())
        yield table


def _write(tables: Iterator[pa.Table], path: Path, kind: str, names: list[str]) -> None:
    schema = pa.schema([ClickGenerator.schema.field(name) for name in names])
    if kind == "parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            for table in tables:
                parquet.write_table(table.select(names))
        return
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    with pyarrow.csv.CSVWriter(path, schema, write_options=options) as text:
        for table in tables:
            text.write_table(table.select(names))


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    aside.rename(path)


def main() -> None:
    """Generate what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--format", choices=("csv", "parquet"), default="parquet")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--click-rate", type=float, default=0.25)
    parser.add_argument("--rows-per-part", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2, help="parts made at the same time")
    parser.add_argument(
        "--without-truth", action="store_true", help="leave out timestamp and probability"
    )
    chosen = parser.parse_args()
    config = ClicksConfig(
        rows=chosen.rows, seed=chosen.seed, days=chosen.days, click_rate=chosen.click_rate
    )
    about = generate(
        config,
        chosen.out,
        chosen.format,
        rows_per_part=chosen.rows_per_part,
        truth=not chosen.without_truth,
        threads=chosen.threads,
    )
    print(json.dumps({key: about[key] for key in about if key != "parts"}))


if __name__ == "__main__":
    main()
