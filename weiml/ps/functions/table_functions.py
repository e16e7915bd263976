"""The built-in functions over rows of a table; examples of how to write one's own.

Each runs where the rows are, and answers the same on any number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.functions.registry import get_function
from weiml.ps.rows.store_kernels import copy_payloads

if TYPE_CHECKING:
    from weiml.ps.tables.sparse import TableConfig

__all__: list[str] = []


@get_function("count_above", level="buckets", sees="weights", merge=sum)
def count_above(
    config: TableConfig, keys: np.ndarray, weights: np.ndarray, threshold: float
) -> int:
    """Return how many rows have a weight ``|w| > threshold``."""
    return int((np.abs(weights) > threshold).any(axis=1).sum())


@get_function("weight_histogram", level="buckets", sees="weights", merge=sum)
def weight_histogram(
    config: TableConfig, keys: np.ndarray, weights: np.ndarray, edges: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return how many weights lie between ascending `edges` (m,): int64 (m - 1,).

    The bins are numpy's. Of a table without rows it is 0.
    """
    return np.histogram(weights, np.asarray(edges, np.float64))[0].astype(np.int64)


_Best: TypeAlias = tuple[np.ndarray, np.ndarray, int]


def _join_best(parts: list[_Best]) -> _Best:
    keys = np.concatenate([np.empty(0, np.uint64), *(part[0] for part in parts)])
    norms = np.concatenate([np.empty(0, np.float64), *(part[1] for part in parts)])
    k = parts[0][2] if parts else 0
    best = np.lexsort((keys, -norms))[:k]
    return keys[best], norms[best], k


@get_function(
    "top_rows", level="buckets", sees="weights", merge=_join_best, finish=lambda best: best[:2]
)
def top_rows(config: TableConfig, keys: np.ndarray, weights: np.ndarray, k: int) -> _Best:
    """Return the k rows of the largest L2 norm, largest first: (keys uint64, norms float64).

    Rows of one norm come in the order of their keys.
    """
    if k < 1:
        raise ParameterServerError(f"k must be 1 or more, got {k}")
    return _join_best([(keys, np.sqrt(np.square(weights, dtype=np.float64).sum(axis=1)), k)])


_Statistics: TypeAlias = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def _join(parts: list[_Statistics]) -> _Statistics:
    keys = np.concatenate([np.empty(0, np.uint64), *(part[0] for part in parts)])
    present = np.concatenate([np.empty(0, np.bool_), *(part[1] for part in parts)])
    names = parts[0][2] if parts else ()
    return keys, present, {n: np.concatenate([part[2][n] for part in parts]) for n in names}


@get_function("row_statistics", level="rows", sees="addresses", merge=_join)
def row_statistics(config: TableConfig, keys: np.ndarray, addresses: np.ndarray) -> _Statistics:
    """Return what is counted in the rows of `keys` uint64 (n,): (keys, present, statistics).

    The keys come in another order; present bool (n,) says which have a row; statistics hold those
    of the table by name, (n,) each: count and last_seen uint32, shows and clicks float32.
    """
    words = np.zeros((len(keys), config.payload_words), np.uint32)
    copy_payloads(addresses, words)
    statistics: dict[str, np.ndarray] = {}
    for name in config.statistics:
        column = words[:, config.statistic_offset(name)].copy()
        statistics[name] = column.view(np.float32) if name in ("shows", "clicks") else column
    return keys, addresses != 0, statistics
