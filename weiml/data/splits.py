"""Splits of examples into train, validation and test, by time."""

from __future__ import annotations

import numpy as np

from weiml.errors import ConfigError, DataError

__all__ = ["SPLITS", "split_by_time"]

SPLITS = ("train", "validation", "test")


def split_by_time(times: np.ndarray, validation_share: float, test_share: float) -> np.ndarray:
    """Return the split of each event, text ``(n,)``, for ascending `times` ``(n,)``.

    Borders fall between seconds: events of the same second are in the same split.

    Raises:
        ConfigError: the shares leave nothing to train on.
        DataError: a split would be empty.
    """
    if min(validation_share, test_share) <= 0 or validation_share + test_share >= 1:
        raise ConfigError(
            f"validation_share={validation_share} and test_share={test_share} must be above 0 and "
            "leave something to train on"
        )
    n = len(times)
    shares = (1 - test_share - validation_share, 1 - test_share)
    starts = [times[min(round(n * share), n - 1)] for share in shares] if n else [0, 0]
    split = np.array(SPLITS)[np.searchsorted(starts, times, side="right")]
    empty = [name for name in SPLITS if name not in split]
    if empty:
        raise DataError(f"{n} events cannot be split by time: nothing is left for {empty[0]}")
    return split
