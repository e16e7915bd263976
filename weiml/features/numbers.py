"""Arrow numbers and times as numpy: how all parts round what has no exact form."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

__all__ = ["floats_of", "seconds_of"]

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def floats_of(values: pa.Array, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """Return numbers or booleans as floats ``(n,)``, NaN for null. Not to be written to.

    Integers that the type cannot tell apart (beyond 2⁵³ for float64, 2²⁴ for float32) are rounded,
    as everywhere else in numpy; Arrow's own cast would fail.
    """
    kind = pa.from_numpy_dtype(dtype)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if values.type != kind:
        values = values.cast(kind, safe=False)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def seconds_of(times: pa.Array) -> pa.Array:
    """Return timestamps as int64 whole seconds since 1970, rounded down, null where missing.

    Computed from the instants, so that no hour of a time zone is ambiguous.
    """
    per = _PER_SECOND[times.type.unit]
    instants = times.cast(pa.timestamp(times.type.unit)).cast(pa.int64())
    if per == 1:
        return instants
    missing = np.asarray(instants.is_null()) if instants.null_count else None
    known = instants.fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(known // per, pa.int64(), mask=missing)
