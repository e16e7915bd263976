"""The built-in functions over all rows of a table; examples of how to write one's own.

Each runs bucket by bucket where the rows are, and answers the same on any number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.functions import get_function

if TYPE_CHECKING:
    from weiml.ps.tables import TableConfig

__all__: list[str] = []


@get_function("count_above", level="buckets", sees="weights", merge=sum)
def count_above(
    config: TableConfig, keys: np.ndarray, weights: np.ndarray, threshold: float
) -> int:
    """Return how many rows have a weight ``|w| > threshold``."""
    return int((np.abs(weights) > threshold).any(axis=1).sum())


def _add_bins(parts: list[np.ndarray]) -> np.ndarray | int:
    return sum(parts)


@get_function("weight_histogram", level="buckets", sees="weights", merge=_add_bins)
def weight_histogram(
    config: TableConfig, keys: np.ndarray, weights: np.ndarray, edges: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return how many weights lie between ascending `edges` (m,): int64 (m - 1,)."""
    return np.histogram(weights, np.asarray(edges, np.float64))[0].astype(np.int64)


def _top(parts: list[tuple[np.ndarray, np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray, int]:
    keys = np.concatenate([np.empty(0, np.uint64), *(part[0] for part in parts)])
    norms = np.concatenate([np.empty(0, np.float64), *(part[1] for part in parts)])
    k = parts[0][2] if parts else 0
    best = np.lexsort((keys, -norms))[:k]
    return keys[best], norms[best], k


@get_function("top_rows", level="buckets", sees="weights", merge=_top)
def top_rows(
    config: TableConfig, keys: np.ndarray, weights: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the k rows of the largest L2 norm: (keys, norms float64, k), largest first.

    Rows of one norm come in the order of their keys.
    """
    if k < 1:
        raise ParameterServerError(f"top_rows: k must be 1 or more, got {k}")
    return _top([(keys, np.sqrt(np.square(weights, dtype=np.float64).sum(axis=1)), k)])
