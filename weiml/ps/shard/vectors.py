"""A shard's part of a dense vector: the ranges of its buckets, in one contiguous array.

Vectors of one length are cut alike, so numbers that stand at the same place of two vectors always
lie on the same shard at the same offset. It knows neither shards nor the map of buckets to them.
"""

from __future__ import annotations

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.partition import vector_places, vector_starts

__all__ = ["VectorPart"]


class VectorPart:
    """The numbers of `buckets` (ascending) of a float32 vector of `length` numbers.

    Bucket b holds numbers ``[length·b // num_buckets, length·(b + 1) // num_buckets)``. Without
    `values`, float32 (local,), they are zeros.

    Raises:
        ParameterServerError: there are more or fewer values than places for them.
    """

    def __init__(
        self,
        length: int,
        num_buckets: int,
        buckets: np.ndarray,
        values: np.ndarray | None = None,
        touched: int = 0,
    ) -> None:
        self.length = length
        self.num_buckets = num_buckets
        self.touched = touched
        """Sequence number of the last change."""
        self.buckets = np.array(buckets, np.int32)
        """int32, ascending: the buckets held."""
        assert (np.diff(self.buckets) > 0).all(), "buckets must ascend"
        starts = vector_starts(length, num_buckets)
        held = self.buckets.astype(np.int64)
        self.offsets = np.append(0, np.cumsum(starts[held + 1] - starts[held])).astype(np.int64)
        """int64 (len(buckets) + 1,): where each bucket starts in `values`."""
        local = int(self.offsets[-1])
        if values is not None and np.shape(values) != (local,):
            raise ParameterServerError(
                f"{len(held)} of {num_buckets} buckets of a vector of length {length} hold {local} "
                f"numbers, got an array of shape {np.shape(values)}"
            )
        # A copy: what arrives may be read-only.
        self.values = (
            np.zeros(local, np.float32) if values is None else np.array(values, np.float32)
        )
        """float32 (local,), contiguous, in bucket order."""
        self._places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The maximal runs (start, stop) of the whole vector that are held, ascending."""
        starts = vector_starts(self.length, self.num_buckets)
        runs: list[tuple[int, int]] = []
        for bucket in self.buckets:
            start, stop = int(starts[bucket]), int(starts[bucket + 1])
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            elif stop > start:
                runs.append((start, stop))
        return runs

    @property
    def places(self) -> np.ndarray:
        """int64 (local,): where each number stands in the whole vector; not to be changed."""
        if self._places is None:
            self._places = vector_places(self.length, self.num_buckets, self.buckets)
        return self._places

    def add(self, differences: np.ndarray, sequence: int, places: np.ndarray | None = None) -> None:
        """Add float32 `differences` (local,), or those of some ascending `places` of the whole."""
        if places is None or self._is_all(places):
            self.values += differences
        else:
            self.values[self._local(places)] += differences
        self.touched = sequence

    def set(self, values: np.ndarray, sequence: int, places: np.ndarray | None = None) -> None:
        """Set the numbers to float32 `values` (local,), or those of some ascending `places`."""
        if places is None or self._is_all(places):
            self.values[:] = values
        else:
            self.values[self._local(places)] = values
        self.touched = sequence

    def values_of(self, buckets: np.ndarray) -> np.ndarray:
        """Return the numbers of some of the held buckets, in the order given: a new array.

        Raises:
            ParameterServerError: a bucket is not held.
        """
        pieces = [self.values[start:stop] for start, stop in self._slices(buckets)]
        return np.concatenate([np.empty(0, np.float32), *pieces])

    def put(self, buckets: np.ndarray, values: np.ndarray) -> None:
        """Take over the numbers of `buckets` (distinct), concatenated in their order.

        Buckets that were not held are from now on; those that were are replaced.
        """
        chosen = np.asarray(buckets, np.int64)
        starts = vector_starts(self.length, self.num_buckets)
        total = int((starts[chosen + 1] - starts[chosen]).sum())
        if total != len(values):
            raise ParameterServerError(
                f"{len(buckets)} buckets of a vector of length {self.length} hold {total} numbers, "
                f"got {len(values)}"
            )
        union = np.union1d(self.buckets, chosen.astype(np.int32))
        if len(union) > len(self.buckets):
            self._become(self.with_buckets(union))
        at = 0
        for start, stop in self._slices(chosen):
            self.values[start:stop] = values[at : at + stop - start]
            at += stop - start

    def with_buckets(self, buckets: np.ndarray) -> VectorPart:
        """Return a part with other `buckets` (ascending): the same numbers, new ones are zeros."""
        other = VectorPart(self.length, self.num_buckets, buckets, touched=self.touched)
        common = np.intersect1d(self.buckets, other.buckets)
        pairs = zip(self._slices(common), other._slices(common), strict=True)
        for (start, stop), (to, end) in pairs:
            other.values[to:end] = self.values[start:stop]
        return other

    def _become(self, other: VectorPart) -> None:
        self.buckets, self.offsets, self.values = other.buckets, other.offsets, other.values
        self._places = None

    def _slices(self, buckets: np.ndarray) -> list[tuple[int, int]]:
        wanted = np.asarray(buckets, np.int64)
        at = np.searchsorted(self.buckets, wanted)
        held = at < len(self.buckets)
        held[held] = self.buckets[at[held]] == wanted[held]
        if not held.all():
            raise ParameterServerError(
                f"bucket {int(wanted[~held][0])} of a vector of length {self.length} is not here; "
                f"{len(self.buckets)} of {self.num_buckets} buckets are"
            )
        starts, stops = self.offsets[at].tolist(), self.offsets[at + 1].tolist()
        return list(zip(starts, stops, strict=True))

    def _is_all(self, places: np.ndarray) -> bool:
        """Whether `places`, which ascend, are exactly those held."""
        if len(places) != len(self.values):
            return False
        at = 0
        for start, stop in self.ranges:
            if places[at] != start or places[at + stop - start - 1] != stop - 1:
                return False
            at += stop - start
        return True

    def _local(self, places: np.ndarray) -> np.ndarray:
        runs = np.array(self.ranges, np.int64).reshape(-1, 2)
        offsets = np.append(0, np.cumsum(runs[:, 1] - runs[:, 0]))
        run = np.searchsorted(runs[:, 0], places, "right") - 1
        held = run >= 0
        held[held] = places[held] < runs[run[held], 1]
        if not held.all():
            raise ParameterServerError(
                f"number {int(places[~held][0])} of a vector of length {self.length} is not here"
            )
        return offsets[run] + places - runs[run, 0]
