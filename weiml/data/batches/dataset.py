"""Batches on disk: a folder of memory-mapped Arrow files, written once, read by slicing.

Layout: ``part-00000.arrow`` … (uncompressed Arrow IPC, one record batch each, the columns of
`Batch.to_arrow`) and ``dataset.json``. A folder appears under its name only when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from weiml.errors import ConfigError, DataError
from weiml.features import Batch, FeatureEncoder, FeatureSpec, KeyNames, feature_ids

__all__ = ["BatchDataset", "publish", "rebatch", "write_batches", "write_parts"]

_FORMAT = 1
_MANIFEST = "dataset.json"
_ENCODER = "encoder.json"
_NAMES = "keys.parquet"
_SHUFFLE_PARTS = 4  # parts mixed with each other in one go when the set is too big to be held
_SMALL_EXAMPLES = 1 << 20  # sets up to this size are shuffled as a whole


def write_batches(
    batches: Iterable[Batch | pa.Table],
    folder: str | Path,
    *,
    encoder: FeatureEncoder | None = None,
    names: KeyNames | None = None,
    examples_per_part: int = 1 << 16,
) -> BatchDataset:
    """Write batches, in order, as a new dataset folder and open it.

    Args:
        batches: batches, or tables as `Batch.to_arrow` gives them; at least one, all of the same
            slots and dense columns. They are cut and joined to parts of `examples_per_part`.
        folder: the folder to make; one that exists must be empty.
        encoder: kept beside the data, for whoever trains on it.
        names: kept beside the data: what its keys stand for. They may be collected while the
            batches are made, and are read after the last one.
        examples_per_part: also the unit of reading and of shuffling.

    Raises:
        DataError: there is no batch, their columns differ, or the folder is not empty.
    """
    if examples_per_part < 1:
        raise ConfigError(f"examples_per_part must be at least 1, got {examples_per_part}")
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise DataError(f"{target} is not empty: datasets are written to a new folder")
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
    aside.mkdir(parents=True)
    try:
        manifest = write_parts(batches, aside, examples_per_part)
        return publish(aside, target, manifest, encoder, names)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def publish(
    aside: Path,
    target: Path,
    manifest: dict[str, Any],
    encoder: FeatureEncoder | None,
    names: KeyNames | None,
) -> BatchDataset:
    """Give a folder of parts its manifest and its name, and open it."""
    if encoder is not None:
        encoder.save(aside / _ENCODER)
        manifest["spec"] = encoder.spec.to_mapping()
        manifest["features"] = _feature_ids(encoder.spec)
    if names is not None:
        names.save(aside / _NAMES)
    (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    os.rename(aside, target)  # also replaces an empty folder
    return BatchDataset.open(target)


@dataclass(frozen=True)
class _Part:
    path: Path
    start: int  # position of its first example in the dataset
    stop: int


class BatchDataset:
    """A dataset folder opened for reading. Cheap to pickle and to open; thread-safe.

    Example:
        >>> dataset = BatchDataset.open(folder)  # doctest: +SKIP
        >>> for batch in dataset.iter_batches(1024, seed=7, epoch=0):  # doctest: +SKIP
        ...     model.step(batch)
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self._manifest = manifest
        ends = np.cumsum([part["examples"] for part in manifest["parts"]]).tolist()
        starts = [0, *ends[:-1]]
        names = [part["file"] for part in manifest["parts"]]
        self._parts = [
            _Part(folder / name, start, stop)
            for name, start, stop in zip(names, starts, ends, strict=True)
        ]

    @classmethod
    def open(cls, folder: str | Path) -> BatchDataset:
        """Open a dataset folder.

        Raises:
            DataError: it is missing, of another format, or a part is missing or cut short.
        """
        source = Path(folder)
        try:
            manifest = json.loads((source / _MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != _FORMAT:
                raise DataError(
                    f"{source} has format {manifest['format']}, this weiml reads {_FORMAT}"
                )
            for part in manifest["parts"]:
                size = (source / part["file"]).stat().st_size
                if size != part["bytes"]:
                    raise DataError(
                        f"{source / part['file']} has {size} bytes but should have "
                        f"{part['bytes']}: write the dataset again"
                    )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(f"{source} is not a dataset folder: no {error.filename}") from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{source / _MANIFEST} is damaged: {error!r}") from None
        return cls(source, manifest)

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return int(self._manifest["num_examples"])

    def __len__(self) -> int:
        return self.num_examples

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the sparse slots."""
        return tuple(self._manifest["slots"])

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns."""
        return tuple(self._manifest["dense_names"])

    @property
    def counts(self) -> dict[str, int]:
        """Counted when written: ``keys`` (with repeats) and ``positives`` (by the first label)."""
        return dict(self._manifest["counts"])

    @property
    def spec(self) -> FeatureSpec | None:
        """The feature spec that the examples were encoded by, if it was kept."""
        spec = self._manifest.get("spec")
        return None if spec is None else FeatureSpec.from_mapping(spec, where=str(self.folder))

    def encoder(self) -> FeatureEncoder:
        """Return the encoder kept beside the data.

        Raises:
            DataError: none was kept.
        """
        return FeatureEncoder.load(self.folder / _ENCODER)

    def names(self) -> KeyNames:
        """Return what the keys stand for.

        Raises:
            DataError: it was not kept.
        """
        return KeyNames.load(self.folder / _NAMES)

    def read(self) -> Batch:
        """Return all examples, in the order in which they were written."""
        return self._range(0, self.num_examples)

    def iter_batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        worker: int = 0,
        num_workers: int = 1,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Yield batches of `batch_size` examples; the last one may be smaller.

        Without a seed the order is that of writing. With one it is a permutation fixed by (seed,
        epoch): of the whole set if that is small (up to 2²⁰ examples), else parts come in random
        order, and examples are permuted within runs of four parts, so that memory is bounded.

        Workers split that order into `num_workers` consecutive ranges of equal length; up to
        ``num_workers - 1`` examples at its end go to nobody.

        Raises:
            ConfigError: an argument is out of range.
        """
        _check_range("batch_size", batch_size, 1, None)
        _check_range("num_workers", num_workers, 1, None)
        _check_range("worker", worker, 0, num_workers - 1)
        length = self.num_examples // num_workers
        start = worker * length
        pieces = (
            self._ordered(start, start + length)
            if seed is None
            else self._shuffled(start, start + length, np.random.SeedSequence((seed, epoch)))
        )
        return rebatch(pieces, batch_size, drop_last)

    def _ordered(self, start: int, stop: int) -> Iterator[Batch]:
        for part in self._parts:
            if part.start < stop and part.stop > start:
                batch = _map(part.path)
                yield batch.slice(max(start - part.start, 0), min(stop, part.stop) - part.start)

    def _shuffled(self, start: int, stop: int, seed: np.random.SeedSequence) -> Iterator[Batch]:
        """Yield positions `start` to `stop` of the permuted order."""
        rng = np.random.default_rng(seed)
        whole = self.num_examples <= _SMALL_EXAMPLES
        parts = [self._parts[i] for i in rng.permutation(len(self._parts))]
        per_run = len(parts) if whole else _SHUFFLE_PARTS
        at = 0
        for first in range(0, len(parts), max(per_run, 1)):
            run = parts[first : first + per_run]
            size = sum(part.stop - part.start for part in run)
            order = rng.permutation(size)  # drawn by every worker, needed or not, to stay in step
            if at < stop and at + size > start:
                chosen = order[max(start - at, 0) : min(stop - at, size)]
                yield Batch.concat([_map(part.path) for part in run]).take(chosen)
            at += size

    def _range(self, start: int, stop: int) -> Batch:
        pieces = list(self._ordered(start, stop))
        if not pieces:
            return _map(self._parts[0].path).slice(0, 0)
        return pieces[0] if len(pieces) == 1 else Batch.concat(pieces)


def rebatch(pieces: Iterable[Batch], batch_size: int, drop_last: bool) -> Iterator[Batch]:
    """Yield batches of `batch_size` examples, cut from pieces and joined across their borders."""
    rest: Batch | None = None
    for piece in pieces:
        at = 0
        if rest is not None:
            at = min(batch_size - rest.num_examples, piece.num_examples)
            rest = Batch.concat([rest, piece.slice(0, at)])
            if rest.num_examples < batch_size:
                continue
            yield rest
            rest = None
        while piece.num_examples - at >= batch_size:
            yield piece.slice(at, at + batch_size)
            at += batch_size
        if at < piece.num_examples:
            rest = piece.slice(at, piece.num_examples)
    if rest is not None and not drop_last:
        yield rest


def write_parts(
    batches: Iterable[Batch | pa.Table],
    folder: Path,
    examples_per_part: int,
    prefix: str = "part",
) -> dict[str, Any]:
    """Write batches, in order, as part files, and return the manifest of these.

    Raises:
        DataError: there is no batch, or their columns differ.
    """
    given = (Batch.from_arrow(b) if isinstance(b, pa.Table) else b for b in batches)
    parts: list[dict[str, Any]] = []
    totals = {"keys": 0, "positives": 0}
    names: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    for batch in _rebatch_or_empty(given, examples_per_part):
        batch.validate()
        if names is not None and names != (batch.slots, batch.dense_names):
            raise DataError(
                f"batches of one dataset must have the same columns, got {names} and then "
                f"{(batch.slots, batch.dense_names)}"
            )
        names = (batch.slots, batch.dense_names)
        path = folder / f"{prefix}-{len(parts):05d}.arrow"
        _write_table(batch.to_arrow(), path)
        parts.append(
            {"file": path.name, "examples": batch.num_examples, "bytes": path.stat().st_size}
        )
        totals["keys"] += int(batch.keys.size)
        totals["positives"] += int(np.count_nonzero(batch.labels[:, :1]))
    if names is None:
        raise DataError("a dataset needs at least one batch, if only to know its columns")
    return {
        "format": _FORMAT,
        "num_examples": sum(part["examples"] for part in parts),
        "slots": names[0],
        "dense_names": names[1],
        "counts": totals,
        "parts": parts,
    }


def _feature_ids(spec: FeatureSpec) -> list[dict[str, str]]:
    """Return the ids of features as text: JSON's numbers hold 53 bits."""
    rows = feature_ids(spec).to_pylist()
    return [row | {"id": f"0x{row['id']:016x}"} for row in rows]


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


def _write_table(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))


def _map(path: Path) -> Batch:
    """Map one part into memory: its big columns are not copied."""
    with pa.memory_map(str(path)) as source:
        return Batch.from_arrow(pyarrow.ipc.open_file(source).read_all())


def _check_range(name: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"in {low} … {high}"
        raise ConfigError(f"{name} must be {limit}, got {value}")
