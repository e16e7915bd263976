"""The registry of data sets: by name to a cached folder of canonical Parquet files.

Knows how to cache, check and build safely; what a data set holds and where it comes from is told
by its own module.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weiml.config import from_mapping, nearest, parse_overrides, to_mapping
from weiml.data.datasets.download import ProgressCallback
from weiml.errors import FetchError

__all__ = [
    "DATASETS",
    "Dataset",
    "Workshop",
    "default_cache_dir",
    "fetch",
    "list_datasets",
    "register_dataset",
]

_MANIFEST = "dataset.json"
_ABANDONED_S = 3600.0  # a build folder this old belongs to a process that died


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What a data set's builder may use."""

    scratch: Path  # an empty folder, thrown away afterwards
    by_hand: Path  # where people put files that they downloaded themselves; may not exist
    progress: ProgressCallback | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set that `fetch` can produce.

    `build(config, workshop)` returns the canonical tables by name, or raises FetchError when no
    source can be reached. A table too large to be held is returned as a reader of its batches.
    """

    name: str
    description: str
    licence: str
    home: str
    build: Callable[[Any, Workshop], Mapping[str, pa.Table | pa.RecordBatchReader]]
    config: Any = None  # a dataclass instance with the defaults of what can be chosen, or None
    tables: tuple[str, ...] = field(default=("ratings", "users", "items"))


DATASETS: dict[str, Dataset] = {}


def register_dataset(dataset: Dataset) -> Dataset:
    """Make a data set known to `fetch` under its name; a later one replaces an earlier one."""
    DATASETS[dataset.name] = dataset
    return dataset


def list_datasets() -> list[Dataset]:
    """Return the known data sets, by name."""
    return [DATASETS[name] for name in sorted(DATASETS)]


def default_cache_dir() -> Path:
    """Return ``$WEIML_HOME``, else ``~/.cache/weiml`` (below ``$XDG_CACHE_HOME`` where set)."""
    home = os.environ.get("WEIML_HOME")
    if home:
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weiml"


def fetch(
    name: str, cache_dir: str | Path | None = None, *, progress: ProgressCallback | None = None
) -> Path:
    """Return the folder that holds the data set's canonical Parquet files, building it if needed.

    Safe to call from several processes at once: each builds aside, the first to finish wins.
    A cached file whose digest no longer fits is built again.

    Args:
        name: a registered name; a data set with choices takes them after a colon, as in
            ``"synthetic-feed:events=5000,seed=3"``.
        cache_dir: where data sets are kept; `default_cache_dir()` unless given.
        progress: told of long steps.

    Raises:
        FetchError: the name is unknown, no source could be reached, or what came is damaged.
        ConfigError: an unknown or ill-typed choice.
    """
    dataset, config, folder_name = _parse(name)
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    folder = root / "datasets" / folder_name
    if _is_intact(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    building = folder.parent / f".{folder_name}.{uuid.uuid4().hex[:12]}.building"
    try:
        scratch = building / "scratch"
        scratch.mkdir(parents=True)
        workshop = Workshop(scratch=scratch, by_hand=root / "downloads", progress=progress)
        tables = dataset.build(config, workshop)
        shutil.rmtree(scratch)
        _write(dataset, config, tables, building)
        _publish(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _parse(name: str) -> tuple[Dataset, Any, str]:
    """Split ``name:key=value,…`` into the data set, its configuration and a folder's name."""
    base, colon, choices = name.partition(":")
    if base not in DATASETS:
        raise FetchError(f"unknown data set {base!r}{nearest(base, DATASETS)}")
    dataset = DATASETS[base]
    if dataset.config is None:
        if colon:
            raise FetchError(f"data set {base!r} has nothing to choose, got {choices!r}")
        return dataset, None, base
    tree = parse_overrides(choices.split(",")) if choices else {}
    config = from_mapping(type(dataset.config), to_mapping(dataset.config) | tree, where=name)
    text = json.dumps(to_mapping(config), sort_keys=True)
    return dataset, config, f"{base}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _write(
    dataset: Dataset,
    config: Any,
    tables: Mapping[str, pa.Table | pa.RecordBatchReader],
    folder: Path,
) -> None:
    files = {}
    for name in dataset.tables:
        path = folder / f"{name}.parquet"
        rows = _write_table(tables[name], path)
        files[path.name] = {"rows": rows, "sha256": _digest(path)}
    manifest = {
        "name": dataset.name,
        "config": None if config is None else to_mapping(config),
        "licence": dataset.licence,
        "home": dataset.home,
        "files": files,
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _write_table(table: pa.Table | pa.RecordBatchReader, path: Path) -> int:
    """Write a Parquet file; return how many rows it has."""
    if isinstance(table, pa.Table):
        pq.write_table(table, path, compression="zstd")
        return int(table.num_rows)
    rows = 0
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for batch in table:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _publish(building: Path, folder: Path) -> None:
    """Rename `building` to `folder`; where another process was faster, keep its result."""
    for _ in range(3):
        with contextlib.suppress(OSError):  # not empty: somebody's result is there already
            building.rename(folder)
            return
        if _is_intact(folder):
            return
        damaged = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:12]}.building"
        with contextlib.suppress(OSError):  # gone: another process moved it aside first
            folder.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    raise FetchError(f"cannot put the data set at {folder}; remove that folder and try again")


def _is_intact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all(
            _digest(folder / name) == entry["sha256"] for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what builders that were killed left behind."""
    for left in folder.glob(".*.building"):
        with contextlib.suppress(OSError):  # its owner has just finished
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
