"""What is fitted as JSON: numbers as they are, arrays as lists or as Arrow's bytes in base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from weiml.errors import DataError

__all__ = ["pack", "unpack"]

_LONGEST_LIST = 1024
"""Arrays up to this length stand as lists, to be read by people; a double's text is exact."""


def pack(value: Any) -> Any:
    """Return a value of numbers, text, arrays, tuples and mappings as fit for JSON.

    An array becomes ``{"dtype", "values"}`` or, when long, ``{"numpy": base64}``; an Arrow array
    ``{"arrow": base64}``, both of one Arrow IPC stream with one column.
    """
    if isinstance(value, np.ndarray):
        if value.size <= _LONGEST_LIST:
            return {"dtype": value.dtype.name, "values": value.tolist()}
        return {"numpy": _to_base64(pa.array(value))}
    if isinstance(value, pa.Array):
        return {"arrow": _to_base64(value)}
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): pack(item) for key, item in value.items()}
    return value


def unpack(value: Any) -> Any:
    """Return what `pack` was given; lists come back as tuples.

    Raises:
        DataError: an array is damaged.
    """
    if isinstance(value, list):
        return tuple(unpack(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"dtype", "values"}:
        return np.array(value["values"], np.dtype(value["dtype"]))
    if set(value) == {"numpy"}:
        return _from_base64(value["numpy"]).to_numpy()
    if set(value) == {"arrow"}:
        return _from_base64(value["arrow"])
    return {key: unpack(item) for key, item in value.items()}


def _to_base64(array: pa.Array) -> str:
    # A slice is copied first, so that the same values give the same bytes.
    array = pa.concat_arrays([array])
    batch = pa.record_batch([array], names=["values"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _from_base64(text: str) -> pa.Array:
    try:
        with pa.ipc.open_stream(base64.b64decode(text, validate=True)) as reader:
            return reader.read_next_batch().column(0)
    except (ValueError, TypeError, StopIteration, pa.ArrowException) as error:
        raise DataError(f"a packed array is damaged: {error}") from None
