"""Lists of numbers to one number a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numba
import numpy as np
import pyarrow as pa

from weiml.features.transforms.columns import (
    as_numbers,
    column,
    from_numbers,
    is_list,
    is_number,
    lists,
    plain_type,
    require,
)
from weiml.features.transforms.derived import FittedDerived, OneColumn, Stateless
from weiml.features.transforms.registry import register

__all__ = ["ListPool"]

_CODES = {"sum": 0, "mean": 1, "max": 2, "min": 3, "last": 4, "count": 5}


@dataclass(frozen=True, eq=False)
class FittedListPool(FittedDerived):
    """One number a list."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the numbers, null where there is none."""
        assert isinstance(self.of, ListPool)
        apart = lists(column(table, self.of.column))
        values = apart.values
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        known = as_numbers(values, self.of.column)
        return (from_numbers(_pool(known, apart.offsets, _CODES[self.of.by])),)


@register("list_pool")
@dataclass(frozen=True)
class ListPool(Stateless, OneColumn):
    """The sum, mean, greatest, least, last or number of a list's numbers, as float64.

    Missing entries are left out. A list without any, or a missing one, has sum and count 0, and
    the others are null.
    """

    by: Literal["sum", "mean", "max", "min", "last", "count"] = field(default="mean", kw_only=True)

    fitted_type = FittedListPool

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of float64."""
        kind = self.kind(schema)
        fits = is_list(kind) and is_number(plain_type(kind.value_type))
        require(fits, self.column, self.name, "lists of numbers", kind)
        return (pa.field(self.target, pa.float64()),)


@numba.njit(nogil=True, cache=True)
def _pool(values: np.ndarray, offsets: np.ndarray, by: int) -> np.ndarray:
    """Return one number a list, NaN where there is none; `by` is a code of `_CODES`."""
    out = np.full(offsets.size - 1, np.nan)
    for row in range(out.size):
        count = 0
        total = 0.0
        least = greatest = last = np.nan
        for i in range(offsets[row], offsets[row + 1]):
            x = values[i]
            if x != x:
                continue
            least = x if count == 0 else min(least, x)
            greatest = x if count == 0 else max(greatest, x)
            last = x
            total += x
            count += 1
        if by == 0:
            out[row] = total
        elif by == 5:
            out[row] = count
        elif count > 0:
            out[row] = total / count if by == 1 else (greatest if by == 2 else least)
            if by == 4:
                out[row] = last
    return out
