"""Examples with (nearly) equal features but both labels: noise that no model can fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.data.sampling.counts import RowCounts, keep_rows, labels_of, numbers_of
from weiml.data.sampling.duplicates import time_order
from weiml.data.sampling.keys import row_keys
from weiml.errors import ConfigError

__all__ = ["Contradictions", "bucket_edges", "remove_contradictions"]

Policy = Literal["drop_all", "keep_majority", "keep_last"]


@dataclass(frozen=True, kw_only=True)
class Contradictions:
    """Which examples contradict one another, and which of them go.

    Examples belong together if all `features` are equal, numbers after rounding: to the bucket
    between their `edges`, else to `decimals` places.

    Raises:
        ConfigError: no features, an unknown policy, or what it needs is missing.
    """

    features: tuple[str, ...]
    label: str = "label"
    policy: Policy = "drop_all"
    """``drop_all``: all examples that belong together go. ``keep_majority``: those of the rarer
    label go, all if both are as frequent. ``keep_last``: only the last one by `time` stays."""
    time: str | None = None
    """Column of times; among equal ones the later row is the later example."""
    decimals: int | None = 6
    """Places that floats are rounded to; all bits count if None."""
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Borders between the buckets of a number, ascending, as `bucket_edges` makes them."""

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("features must name at least one column")
        if self.policy not in get_args(Policy):
            known = nearest(self.policy, get_args(Policy))
            raise ConfigError(
                f"policy must be one of {get_args(Policy)}, got {self.policy!r}{known}"
            )
        if self.policy == "keep_last" and self.time is None:
            raise ConfigError("policy 'keep_last' needs time, the column of times")
        for name, edges in self.edges.items():
            if name not in self.features:
                raise ConfigError(f"edges of {name!r}, no feature{nearest(name, self.features)}")
            if any(b <= a for a, b in pairwise(edges)):
                raise ConfigError(f"edges of {name!r} must ascend, got {edges}")


def bucket_edges(
    table: pa.Table, features: tuple[str, ...], buckets: int
) -> dict[str, tuple[float, ...]]:
    """Return borders of about `buckets` buckets of equal count, for `Contradictions.edges`.

    Make them once, of a sample of the data, so that all parts are cut alike.

    Raises:
        ConfigError: fewer than 2 buckets.
        DataError: a column is missing or not of numbers.
    """
    if buckets < 2:
        raise ConfigError(f"buckets must be at least 2, got {buckets}")
    levels = np.arange(1, buckets) / buckets
    found = {}
    for name in features:
        numbers = numbers_of(table, name, "feature")
        numbers = numbers[np.isfinite(numbers)]
        cuts: Any = np.unique(np.quantile(numbers, levels)) if len(numbers) else []
        found[name] = tuple(map(float, cuts))
    return found


def remove_contradictions(
    table: pa.Table, config: Contradictions, *, counts: RowCounts | None = None
) -> pa.Table:
    """Return the examples that do not contradict one another, and those that the policy keeps.

    All examples that belong together must be in one table: partition by the features, or by what
    decides them, first.

    Raises:
        DataError: a column is missing, or a label is neither 0 nor 1.
    """
    positive = labels_of(table, config.label)
    keys = row_keys(_bucketed(table, config), config.features, config.decimals)
    _, group, size = np.unique(keys, return_inverse=True, return_counts=True)
    positives = np.bincount(group, positive, minlength=len(size))
    mixed = (positives > 0) & (positives < size)
    if config.policy == "drop_all":
        keep = ~mixed[group]
    elif config.policy == "keep_majority":
        major = 2 * positives - size
        keep = ~mixed[group] | np.where(positive, major[group] > 0, major[group] < 0)
    else:
        assert config.time is not None
        keep = ~mixed[group] | _last_of_each(group, len(size), time_order(table, config.time))
    return keep_rows(table, keep, f"contradictions ({config.policy})", counts)


def _bucketed(table: pa.Table, config: Contradictions) -> pa.Table:
    for name, edges in config.edges.items():
        numbers = numbers_of(table, name, "feature")
        buckets = np.searchsorted(np.array(edges), numbers, side="right")
        buckets = pa.array(buckets, mask=np.isnan(numbers))
        table = table.set_column(table.column_names.index(name), name, buckets)
    return table


def _last_of_each(group: np.ndarray, groups: int, order: np.ndarray) -> np.ndarray:
    """Return which rows are the last of their group in `order`, row numbers in order of time."""
    last = np.full(groups, -1, np.int64)
    last[group[order]] = order  # of several assignments the last one stays
    keep = np.zeros(len(group), bool)
    keep[last[last >= 0]] = True
    return keep
