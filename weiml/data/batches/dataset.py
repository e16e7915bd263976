"""Batches on disk: a folder of memory-mapped Arrow files, written once, read by slicing.

Layout: ``part-00000.arrow`` … (uncompressed Arrow IPC, one record batch each, the columns of
`Batch.to_arrow`, without ``lengths`` where every slot has exactly one key, and with bytes for dense
numbers where they were packed) and ``dataset.json``. A folder appears under its name only when it
is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from weiml.config import nearest
from weiml.data.batches.columns import check_columns
from weiml.data.batches.gather import Gatherer
from weiml.data.batches.rebatch import rebatch
from weiml.data.batches.shares import Share, Split, check_split
from weiml.data.batches.warming import warmed
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, FeatureEncoder, FeatureSpec, KeyNames

__all__ = ["ENCODER", "FORMAT", "MANIFEST", "NAMES", "PACKED_FORMAT", "BatchDataset"]

FORMAT = 2
PACKED_FORMAT = 3  # dense numbers are bytes
_KNOWN_FORMATS = (1, 2, 3)  # 1: all parts have lengths
MANIFEST = "dataset.json"
ENCODER = "encoder.json"
NAMES = "keys.parquet"
_SHUFFLE_PARTS = 4  # parts mixed with each other in one go when the set is too big to be held
_SMALL_EXAMPLES = 1 << 20  # sets up to this size are shuffled as a whole


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

    def __init__(self, folder: Path, manifest: dict[str, Any], split: Split = "ranges") -> None:
        check_split(split)
        self.folder = folder
        self.split: Split = split
        self._manifest = manifest
        ends = np.cumsum([part["examples"] for part in manifest["parts"]]).tolist()
        starts = [0, *ends[:-1]]
        names = [part["file"] for part in manifest["parts"]]
        parts = [
            _Part(folder / name, start, stop)
            for name, start, stop in zip(names, starts, ends, strict=True)
        ]
        # Those of pieces without examples; one of them still knows the columns.
        self._parts = [part for part in parts if part.stop > part.start] or parts[:1]

    @classmethod
    def open(cls, folder: str | Path, *, split: Split = "ranges") -> BatchDataset:
        """Open a dataset folder.

        Args:
            folder: what `write_batches` made.
            split: how workers share the examples unless `iter_batches` is told.

        Raises:
            ConfigError: there is no such split.
            DataError: it is missing, of another format, or a part is missing or cut short.
        """
        source = Path(folder)
        try:
            manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] not in _KNOWN_FORMATS:
                raise DataError(
                    f"{source} has format {manifest['format']}, this weiml reads {_KNOWN_FORMATS}"
                )
            _check_manifest(manifest)
            for part in manifest["parts"]:
                size = (source / part["file"]).stat().st_size
                if size != part["bytes"]:
                    raise DataError(
                        f"{source / part['file']} has {size} bytes but should have "
                        f"{part['bytes']}: write the dataset again"
                    )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(f"{source} is not a dataset folder: no {error.filename}") from None
        except OSError as error:
            raise DataError(f"{source} cannot be read: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{source / MANIFEST} is damaged: {error!r}") from None
        return cls(source, manifest, split)

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
    def num_labels(self) -> int:
        """How many labels an example has."""
        known = self._manifest.get("labels")  # sets of format 1 may lack it
        return self._like.labels.shape[1] if known is None else int(known)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the batches' columns; () if they were not kept."""
        return tuple(self._manifest.get("label_names", ()))

    def check_tasks(self, tasks: Sequence[str], whose: str) -> None:
        """Make sure that several tasks are the labels of these names, in this order.

        Raises:
            DataError: they are not. Where no names were kept, only the number is compared.
        """
        if len(tasks) < 2 or not self.num_examples:
            return
        if not self.label_names and len(tasks) == self.num_labels:
            return
        if tuple(tasks) != self.label_names:
            named = f"{list(self.label_names)}" if self.label_names else f"{self.num_labels}"
            raise DataError(
                f"{whose} has the tasks {list(tasks)}, {self.folder} the labels {named}: name the "
                f"tasks as the labels, in their order{self._nearest_label(tasks)}"
            )

    def _nearest_label(self, tasks: Sequence[str]) -> str:
        unknown = [task for task in tasks if task not in self.label_names]
        if not unknown or not self.label_names:
            return ""
        return f"; no label is called {unknown[0]!r}{nearest(unknown[0], self.label_names)}"

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
        return FeatureEncoder.load(self.folder / ENCODER)

    def names(self) -> KeyNames:
        """Return what the keys stand for.

        Raises:
            DataError: it was not kept.
        """
        return KeyNames.load(self.folder / NAMES)

    def read(self) -> Batch:
        """Return all examples, in the order in which they were written."""
        pieces = list(self._ordered(Share(self.num_examples, 0, 1, max(self.num_examples, 1))))
        if not pieces:
            return self._map(self._parts[0]).slice(0, 0).unpacked()
        return pieces[0] if len(pieces) == 1 else Batch.concat(pieces)

    def iter_batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        worker: int = 0,
        num_workers: int = 1,
        drop_last: bool = False,
        shuffle_parts: int | None = None,
        split: Split | None = None,
    ) -> Iterator[Batch]:
        """Yield batches of `batch_size` examples; the last one may be smaller.

        Without a seed the order is that of writing. With one it is a permutation fixed by (seed,
        epoch, shuffle_parts): parts come in random order, and examples are permuted within runs of
        `shuffle_parts` parts, so that memory is bounded. None permutes sets of up to 2²⁰ examples
        as a whole, and takes runs of four parts of larger ones.

        Workers split that order into `num_workers` consecutive ranges of equal length, or step by
        step, see `weiml.data.batches.shares`; up to ``num_workers - 1`` examples at its end go to
        nobody. None: as the set was opened.

        Raises:
            ConfigError: an argument is out of range.
        """
        share = self._share(batch_size, worker, num_workers, split)
        per_run = self._per_run(shuffle_parts)
        if seed is None:
            return rebatch(self._ordered(share), batch_size, drop_last)
        order = np.random.SeedSequence((seed, epoch))
        runs = self._runs(share, order, per_run)
        return rebatch(self._shuffled(runs, batch_size), batch_size, drop_last)

    def locate(
        self,
        start: int,
        stop: int,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        worker: int = 0,
        num_workers: int = 1,
        shuffle_parts: int | None = None,
        split: Split | None = None,
    ) -> list[tuple[Path, np.ndarray]]:
        """Return where examples `start` to `stop` of what `iter_batches` yields are kept.

        Returns:
            (file, int64 (n,) numbers of its examples from 0) for each file that has some.
        """
        share = self._share(batch_size, worker, num_workers, split)
        places = self._places(share, seed, epoch, self._per_run(shuffle_parts))
        wanted, passed = [], 0
        for piece in places:
            wanted.append(piece[max(start - passed, 0) : max(stop - passed, 0)])
            passed += piece.size
            if passed >= stop:
                break
        chosen = np.concatenate(wanted) if wanted else np.empty(0, np.int64)
        found = ((part, (chosen >= part.start) & (chosen < part.stop)) for part in self._parts)
        return [(part.path, chosen[here] - part.start) for part, here in found if here.any()]

    def _places(
        self, share: Share, seed: int | None, epoch: int, per_run: int
    ) -> Iterator[np.ndarray]:
        """Yield the numbers of a worker's examples in the order of its batches."""
        if seed is None:
            for first, last in share.within(0, self.num_examples):
                yield np.arange(first, last)
            return
        for run, picked in self._runs(share, np.random.SeedSequence((seed, epoch)), per_run):
            yield np.concatenate([np.arange(part.start, part.stop) for part in run])[picked]

    def _share(self, batch_size: int, worker: int, num_workers: int, split: Split | None) -> Share:
        """Return what a worker takes of the order."""
        _check_range("batch_size", batch_size, 1, None)
        _check_range("num_workers", num_workers, 1, None)
        _check_range("worker", worker, 0, num_workers - 1)
        split = self.split if split is None else split
        check_split(split)
        return Share(self.num_examples, worker, num_workers, batch_size, split)

    def _per_run(self, shuffle_parts: int | None) -> int:
        """Return how many parts are permuted together."""
        if shuffle_parts is None:
            small = self.num_examples <= _SMALL_EXAMPLES
            return len(self._parts) if small else _SHUFFLE_PARTS
        _check_range("shuffle_parts", shuffle_parts, 1, None)
        return shuffle_parts

    def _ordered(self, share: Share) -> Iterator[Batch]:
        wanted = (part for part in self._parts if any(share.within(part.start, part.stop)))
        for part in warmed(wanted, lambda part: [part.path]):
            batch = self._map(part)
            for first, last in share.within(part.start, part.stop):
                yield batch.slice(first - part.start, last - part.start).unpacked()

    def _shuffled(
        self, runs: Iterator[tuple[list[_Part], np.ndarray]], batch_size: int
    ) -> Iterator[Batch]:
        """Yield what `_runs` gives, cut where batches end."""
        taken = 0
        for run, chosen in warmed(runs, lambda item: [part.path for part in item[0]]):
            pick = Gatherer([self._map(part) for part in run])
            first = 0
            while first < chosen.size:
                last = min(first + batch_size - taken % batch_size, chosen.size)
                yield pick.take(chosen[first:last]).unpacked()
                taken += last - first
                first = last

    def _runs(
        self, share: Share, seed: np.random.SeedSequence, per_run: int
    ) -> Iterator[tuple[list[_Part], np.ndarray]]:
        """Yield parts that are mixed with each other, and which of their examples are wanted."""
        rng = np.random.default_rng(seed)
        parts = [self._parts[i] for i in rng.permutation(len(self._parts))]
        at = 0
        for first in range(0, len(parts), per_run):
            run = parts[first : first + per_run]
            size = sum(part.stop - part.start for part in run)
            order = rng.permutation(size)  # drawn by every worker, needed or not, to stay in step
            own = [order[first - at : last - at] for first, last in share.within(at, at + size)]
            if own:
                yield run, own[0] if len(own) == 1 else np.concatenate(own)
            at += size

    @cached_property
    def _like(self) -> Batch:
        """One example, or none if there are none, of the columns that all parts have."""
        batch = _map(self._parts[0])
        if (batch.slots, batch.dense_names) != (self.slots, self.dense_names):
            raise DataError(
                f"{self._parts[0].path} has slots {batch.slots} and dense columns "
                f"{batch.dense_names}, but {MANIFEST} says {self.slots} and {self.dense_names}"
            )
        return batch.take(np.arange(min(len(batch), 1)))

    def _map(self, part: _Part) -> Batch:
        """Map a part into memory, packed as it lies: its big columns are not copied."""
        batch = _map(part)
        try:
            check_columns(self._like, batch)
        except DataError as error:
            raise DataError(f"{part.path} does not go with the parts before it: {error}") from None
        return batch


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError unless all is there that is used later."""
    for name in ("slots", "dense_names", "label_names"):
        columns = manifest.get(name, []) if name == "label_names" else manifest[name]
        if not all(isinstance(column, str) for column in columns):
            raise ValueError(f"{name!r} holds other things than names")
    dict(manifest["counts"])
    parts = manifest["parts"]
    if not parts:
        raise ValueError("'parts' is empty: a dataset has at least one, if only of no examples")
    for part in parts:
        counts = [part["examples"], part["bytes"]]
        if "/" in part["file"] or not all(isinstance(n, int) and n >= 0 for n in counts):
            raise ValueError(f"a part is a file of the folder with its two sizes, got {part}")
    total = sum(part["examples"] for part in parts)
    if total != manifest["num_examples"]:
        raise ValueError(
            f"'num_examples' is {manifest['num_examples']}, but its parts hold {total}"
        )


def _map(part: _Part) -> Batch:
    try:
        with pa.memory_map(str(part.path)) as source:
            table = pyarrow.ipc.open_file(source).read_all()
        table.validate()
        batch = Batch.from_arrow(table, packed=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{part.path} is damaged: {error}; write the dataset again") from None
    if len(batch) != part.stop - part.start:
        raise DataError(
            f"{part.path} holds {len(batch)} examples, but {MANIFEST} says "
            f"{part.stop - part.start}: write the dataset again"
        )
    return batch


def _check_range(name: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"in {low} … {high}"
        raise ConfigError(f"{name} must be {limit}, got {value}")
