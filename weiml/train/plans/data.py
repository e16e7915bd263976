"""The examples of a plan by part: read lazily, cut by time or hash, negatives thinned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import to_mapping
from weiml.data import Examples, FileSource, ProgressCallback, fetch
from weiml.data.sampling import DownSampling, down_sample
from weiml.errors import DataError
from weiml.features import FeatureSpec
from weiml.train.plans.config import PARTS, DataConfig
from weiml.train.plans.identity import file_identity

__all__ = ["PlanData"]


class PlanData:
    """The raw examples that a plan's `data` names.

    Args:
        config: the section.
        spec: names the columns of label, group and time.
        progress: told of fetching.
    """

    def __init__(
        self, config: DataConfig, spec: FeatureSpec, progress: ProgressCallback | None = None
    ) -> None:
        self.config = config
        self.spec = spec
        self._progress = progress

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that one set is split by."""
        default = self.spec.time if self.config.split == "time" else self.spec.group
        return self.config.by or (default,)

    @property
    def is_split(self) -> bool:
        """Whether one set is split into the parts."""
        return not self.config.train

    def identity(self, part: str) -> dict[str, Any]:
        """Return all that the examples of a part follow from, fit for JSON.

        Raises:
            DataError: a file is missing, or a part that must not share files with another does.
        """
        config = self.config
        known: dict[str, Any] = {"format": config.format}
        if self.is_split:
            known |= {"files": self._identities["files"], "part": part, "split": config.split}
            known |= {"by": self.by, "shares": to_mapping(config.shares)}
            known |= {"seed": config.seed} if config.split == "hash" else {}
        else:
            known["files"] = self._identities[part]
        if self._is_thinned(part):
            known |= {"keep_negatives": config.keep_negatives, "negatives_seed": config.seed}
        return known

    def starts(self) -> list[int]:
        """Return where the parts but the first begin in a set that is split by time.

        Borders fall between times: examples of one time are in the same part.

        Raises:
            DataError: there is no such column, a time is missing, or a part would be empty.
        """
        (time,) = self.by
        column = self._whole.select(time).to_table()[time]
        if column.null_count:
            raise DataError(f"time column {time!r} has {column.null_count} missing values")
        times = column.combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
        times = np.sort(times)
        shares = [getattr(self.config.shares, part) for part in self.config.parts]
        places = np.round(np.cumsum(shares)[:-1] * len(times)).astype(np.int64)
        starts = [int(times[min(place, len(times) - 1)]) for place in places] if len(times) else []
        borders = [int(times[0]) if len(times) else 0, *starts, np.inf]
        for part, (start, stop) in zip(self.config.parts, pairwise(borders), strict=True):
            if not (len(times) and start < stop):
                raise DataError(
                    f"{len(times)} examples cannot be split by time {time!r}: nothing is left for "
                    f"{part}; change data.shares, or split by hash"
                )
        return starts

    def examples(self, part: str, starts: Sequence[int] = ()) -> Examples:
        """Return the examples of a part.

        Args:
            part: one of `DataConfig.parts`.
            starts: what `starts` returned, where one set is split by time.
        """
        found = self._cut(part, starts) if self.is_split else self._read(self.config.paths(part))
        if self._is_thinned(part):
            # All columns together tell examples apart; equal ones stay or go together.
            drawn = DownSampling(
                id=tuple(found.columns),
                rate=self.config.keep_negatives,
                label=self.spec.label,
                seed=self.config.seed,
            )
            found = found.map(partial(down_sample, config=drawn), schema=found.schema)
        return found

    def _is_thinned(self, part: str) -> bool:
        return self.config.keep_negatives < 1 and part in ("train", "validation")

    def _cut(self, part: str, starts: Sequence[int]) -> Examples:
        if self.config.split == "hash":
            shares = {name: getattr(self.config.shares, name) for name in self.config.parts}
            return self._whole.split_by_hash(self.by, shares, seed=self.config.seed)[part]
        at, found, (time,) = self.config.parts.index(part), self._whole, self.by
        kind = found.schema.field(time).type
        if at > 0:
            start = pa.scalar(starts[at - 1], pa.int64()).cast(kind)
            found = found.filter(pc.field(time) >= start)
        if at < len(starts):
            stop = pa.scalar(starts[at], pa.int64()).cast(kind)
            found = found.filter(pc.field(time) < stop)
        return found

    @cached_property
    def _whole(self) -> Examples:
        if self.config.dataset:
            return self._read((self._fetched,))
        return self._read(self.config.paths("files"))

    @cached_property
    def _fetched(self) -> str:
        folder = fetch(self.config.dataset, progress=self._progress)
        return str(folder / f"{self.config.table}.parquet")

    def _read(self, paths: Sequence[str]) -> Examples:
        read = FileSource(paths, format=self.config.format).read()
        return read.using(engine=self.config.engine)

    @cached_property
    def _identities(self) -> dict[str, list[str]]:
        """Identities of the files by part, or of those that are split."""
        config = self.config
        found: dict[str, list[str]] = {}
        for name in ("files",) if self.is_split else config.parts:
            given = (self._fetched,) if config.dataset else config.paths(name)
            files = FileSource(given, format=config.format).files()
            found[name] = [file_identity(file, config.identify) for file in files]
        check_apart(found)
        return found


def check_apart(identities: dict[str, list[str]]) -> None:
    """Raise DataError if two parts hold the same file; validation and calibration may."""
    for one, other in combinations([part for part in PARTS if part in identities], 2):
        if {one, other} != {"validation", "calibration"}:
            shared = set(identities[one]) & set(identities[other])
            if shared:
                raise DataError(
                    f"data.{one} and data.{other} have {len(shared)} files in common: what is "
                    f"fitted on {one} must not be judged or calibrated on the same examples"
                )
