"""Weights by kind of label: a purchase tells more than a click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.data.sampling.counts import column_of
from weiml.data.sampling.down_sampling import multiply_weights
from weiml.errors import ConfigError, DataError

__all__ = ["KindWeights", "weigh"]


@dataclass(frozen=True, kw_only=True)
class KindWeights:
    """What an example of each kind weighs.

    Raises:
        ConfigError: a weight is negative or not finite.
    """

    kind: str
    """Column that says what the example is: ``click``, ``purchase``."""
    weights: Mapping[str, float] = field(default_factory=dict)
    default: float | None = None
    """Weight of all other kinds, and of null; None makes them an error."""
    weight: str = "weight"
    """Column of weights; what is there is multiplied."""

    def __post_init__(self) -> None:
        given = {**self.weights} | ({} if self.default is None else {"default": self.default})
        for name, weight in given.items():
            if not (np.isfinite(weight) and weight >= 0):
                raise ConfigError(
                    f"weights must be finite and not negative, got {weight} of {name}"
                )


def weigh(table: pa.Table, config: KindWeights) -> pa.Table:
    """Return the table with its column of weights made, or multiplied; float32.

    Raises:
        DataError: the column is missing, or has a kind without a weight.
    """
    kinds = column_of(table, config.kind, "kind").cast(pa.string())
    names = list(config.weights)
    places = pc.index_in(kinds, value_set=pa.array(names, pa.string()))
    unknown = places.is_null()
    if config.default is None and pc.any(unknown).as_py():
        kind = kinds.filter(unknown)[0].as_py()
        known = nearest(str(kind), names)
        raise DataError(
            f"kind {kind!r} of column {config.kind!r} has no weight: name it in weights, or set "
            f"default{known}"
        )
    lookup = np.array([*map(float, config.weights.values()), config.default or 0.0])
    filled = places.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return multiply_weights(table, config.weight, lookup[filled])
