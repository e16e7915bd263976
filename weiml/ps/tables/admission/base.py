"""Which keys are worth a row: the contract of filters, and their configuration.

A filter sees the keys of pushes for which there is no row yet. It knows keys, how often they
occurred and buckets, no rows. What it keeps lies in buckets like the rows, so that it moves with
them and the choice does not depend on the number of shards.

McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, section 4.3, on why:
half of all features occur once.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from weiml.errors import ConfigError

__all__ = ["AdmissionConfig", "AdmissionFilter", "bucket_mask"]

LOG_BYTES = 16 << 20
"""What a filter's list of its changes may take."""
_MOST_COUNT = 65535


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """Which keys get a row; gradients of the others are dropped, and they are pulled as zeros.

    An occurrence is one of the examples that a push counts for a key, or the push itself where it
    counts none.
    """

    kind: Literal["count", "probability", "bloom"] = "count"
    """count: at the `min_count`-th occurrence, counted exactly, in 15 bytes for each waiting key;
    bloom: the same with a counting Bloom filter of fixed size, which sometimes counts too many;
    probability: each occurrence has a chance of `probability`, and nothing is kept."""
    min_count: int = 2
    """The occurrence at which a key gets its row, 2 … 65535; for count and bloom."""
    probability: float = 0.1
    """Above 0, below 1; for probability."""
    expected_keys: int | None = None
    """How many different keys, over all shards, the filter is to tell apart; for bloom. When more
    have come, all its counts are halved, so that it forgets what was rare long ago."""
    false_positive_rate: float = 0.01
    """How many unseen keys a full filter takes for seen ones, above 0, below 1; for bloom."""

    def __post_init__(self) -> None:
        if self.kind not in ("count", "probability", "bloom"):
            raise ConfigError(f"kind must be count, probability or bloom, got {self.kind!r}")
        if not 2 <= self.min_count <= _MOST_COUNT:
            raise ConfigError(f"min_count must be 2 to {_MOST_COUNT}, got {self.min_count}")
        for knob in ("probability", "false_positive_rate"):
            if not 0 < getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be above 0 and below 1, got {getattr(self, knob)}")
        if self.kind == "bloom" and (self.expected_keys is None or self.expected_keys < 1):
            raise ConfigError(
                f"a Bloom filter is sized by expected_keys, which must be 1 or more, "
                f"got {self.expected_keys}"
            )


class AdmissionFilter(abc.ABC):
    """Decides about keys without a row, and can tell a stand-by what it knows."""

    @property
    @abc.abstractmethod
    def nbytes(self) -> int:
        """Bytes of all that the filter keeps."""

    @abc.abstractmethod
    def admit(self, keys: np.ndarray, sequence: int, occurrences: np.ndarray) -> np.ndarray:
        """Return which of `keys` uint64 (n,) get a row, occurring now, in order: bool (n,).

        `occurrences` int64 (n,) says how often each occurs, 1 or more. A key that is admitted and
        repeated stays admitted to the end of the call.
        """

    @abc.abstractmethod
    def extras(self, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return all that is known of `buckets` int (m,) as named arrays.

        Loading them makes another filter know just that of these buckets, and leaves what it knows
        of others. None: of the buckets of which something is known.
        """

    @abc.abstractmethod
    def delta(self, since: int, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return what changed in `buckets`, or in all, after sequence number `since`.

        When that is not known any more, all that is known of them.
        """

    @abc.abstractmethod
    def load(self, arrays: Mapping[str, np.ndarray], sequence: int) -> None:
        """Set what `extras` or `delta` of another filter tell, as of `sequence`; keep the rest."""

    @abc.abstractmethod
    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Forget what is known of `buckets` int (m,)."""


def bucket_mask(buckets: np.ndarray | None, num_buckets: int) -> np.ndarray:
    """Return which of all buckets are meant, None meaning all: bool (num_buckets,)."""
    mask = np.full(num_buckets, buckets is None)
    if buckets is not None:
        mask[buckets] = True
    return mask
