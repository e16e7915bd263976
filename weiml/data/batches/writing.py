"""Writing batches to a dataset folder, which appears under its name only when it is whole."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from weiml.data.batches.columns import check_columns
from weiml.data.batches.dataset import ENCODER, FORMAT, MANIFEST, NAMES, PACKED_FORMAT, BatchDataset
from weiml.data.batches.gather import has_one_key
from weiml.data.batches.rebatch import rebatch
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, FeatureEncoder, FeatureSpec, KeyNames, feature_ids

__all__ = ["folder_aside", "publish", "write_batches", "write_parts"]


def write_batches(
    batches: Iterable[Batch | pa.Table],
    folder: str | Path,
    *,
    encoder: FeatureEncoder | None = None,
    names: KeyNames | None = None,
    label_names: Sequence[str] | None = None,
    examples_per_part: int = 1 << 16,
    packed: bool = False,
) -> BatchDataset:
    """Write batches, in order, as a new dataset folder and open it.

    Args:
        batches: batches, or tables as `Batch.to_arrow` gives them; at least one, all of the same
            slots and dense columns. They are cut and joined to parts of `examples_per_part`.
        folder: the folder to make; one that exists must be empty.
        encoder: kept beside the data, for whoever trains on it.
        names: kept beside the data: what its keys stand for. They may be collected while the
            batches are made, and are read after the last one.
        label_names: of the columns of labels; by default those of the encoder's spec, where it has
            as many.
        examples_per_part: also the unit of reading and of shuffling.
        packed: keep dense numbers, such as pixels, as bytes: a quarter of the room. Readers make
            float32 of them again.

    Raises:
        DataError: there is no batch, their columns differ, the folder is not empty or cannot be
            made, a dense number to be packed is no whole number from 0 to 255, or there are not as
            many `label_names` as labels.
    """
    if examples_per_part < 1:
        raise ConfigError(f"examples_per_part must be at least 1, got {examples_per_part}")
    target = Path(folder)
    aside = folder_aside(target)
    try:
        manifest = write_parts(batches, aside, examples_per_part, packed=packed)
        return publish(aside, target, manifest, encoder, names, label_names)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def folder_aside(target: Path) -> Path:
    """Make the folder in which a dataset is written before it gets its name, `target`.

    Raises:
        DataError: something is there already, or no folder can be made there.
    """
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
    try:
        if target.is_dir():
            if any(target.iterdir()):
                raise DataError(f"{target} is not empty: datasets are written to a new folder")
        elif target.exists() or target.is_symlink():
            raise DataError(f"{target} is a file: datasets are written to a new folder")
        aside.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"no dataset can be written to {target}: {error}") from None
    return aside


def publish(
    aside: Path,
    target: Path,
    manifest: dict[str, Any],
    encoder: FeatureEncoder | None,
    names: KeyNames | None,
    label_names: Sequence[str] | None = None,
) -> BatchDataset:
    """Give a folder of parts its manifest and its name, and open it.

    Raises:
        DataError: something of that name has appeared meanwhile, or there are not as many names as
            labels.
    """
    if encoder is not None:
        encoder.save(aside / ENCODER)
        manifest["spec"] = encoder.spec.to_mapping()
        manifest["features"] = _feature_ids(encoder.spec)
    if label_names is None and encoder is not None:
        kept = encoder.spec.label_names
        label_names = kept if len(kept) == manifest["labels"] else None
    if label_names is not None:
        _check_label_names(label_names, manifest)
        manifest["label_names"] = list(label_names)
    if names is not None:
        names.save(aside / NAMES)
    (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    try:
        os.rename(aside, target)  # also replaces an empty folder
    except OSError as error:
        raise DataError(f"{target} was taken while the dataset was written: {error}") from None
    return BatchDataset.open(target)


def write_parts(
    batches: Iterable[Batch | pa.Table],
    folder: Path,
    examples_per_part: int,
    prefix: str = "part",
    *,
    packed: bool = False,
) -> dict[str, Any]:
    """Write batches, in order, as part files, and return the manifest of these.

    Raises:
        DataError: there is no batch, or their columns differ.
    """
    given = (Batch.from_arrow(b) if isinstance(b, pa.Table) else b for b in batches)
    parts: list[dict[str, Any]] = []
    totals = {"keys": 0, "positives": 0}
    last: Batch | None = None
    for batch in _rebatch_or_empty(_of_same_columns(given), examples_per_part):
        last = batch
        path = folder / f"{prefix}-{len(parts):05d}.arrow"
        _write_part(batch.packed() if packed else batch, path)
        parts.append(
            {"file": path.name, "examples": batch.num_examples, "bytes": path.stat().st_size}
        )
        totals["keys"] += int(batch.keys.size)
        totals["positives"] += int(np.count_nonzero(np.nan_to_num(batch.labels[:, :1])))
    if last is None:
        raise DataError("a dataset needs at least one batch, if only to know its columns")
    return {
        "format": PACKED_FORMAT if packed else FORMAT,
        "num_examples": sum(part["examples"] for part in parts),
        "slots": last.slots,
        "dense_names": last.dense_names,
        "labels": last.labels.shape[1],
        "counts": totals,
        "parts": parts,
    }


def _check_label_names(names: Sequence[str], manifest: dict[str, Any]) -> None:
    count = manifest["labels"]
    if len(set(names)) < len(names) or (manifest["num_examples"] and len(names) != count):
        raise DataError(
            f"label_names must name {count} labels, each another, got {list(names)}; they stand in "
            "the order of the batches' columns"
        )


def _feature_ids(spec: FeatureSpec) -> list[dict[str, str]]:
    """Return the ids of features as text: JSON's numbers hold 53 bits."""
    rows = feature_ids(spec).to_pylist()
    return [row | {"id": f"0x{row['id']:016x}"} for row in rows]


def _of_same_columns(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield valid batches that are like the first one that has examples."""
    known: Batch | None = None
    for at, batch in enumerate(batches):
        batch.validate()
        if known is not None:
            try:
                check_columns(known, batch)
            except DataError as error:
                raise DataError(f"batch {at} does not go with those before it: {error}") from None
        if known is None or (batch.num_examples and not known.num_examples):
            known = batch.take(np.arange(min(batch.num_examples, 1)))  # lets go of the rest
        yield batch


def _rebatch_or_empty(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Like `rebatch`, but where there are only empty batches yield one of them."""
    empty: Batch | None = None
    full = False

    def not_empty() -> Iterator[Batch]:
        nonlocal empty
        for batch in batches:
            if batch.num_examples:
                yield batch
            else:
                empty = batch

    for batch in rebatch(not_empty(), size, drop_last=False):
        full = True
        yield batch
    if not full and empty is not None:
        yield empty


def _write_part(batch: Batch, path: Path) -> None:
    table = batch.to_arrow()
    if has_one_key(batch):  # a quarter of the file would say so
        table = table.drop_columns(["lengths"])
    with pa.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))
