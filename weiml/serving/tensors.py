"""Tensors of a request to raw Arrow columns, by the feature's type. Knows no protocol or model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from weiml.errors import RequestError
from weiml.features import Binary, Categorical, Continuous, Feature, SparseBinary
from weiml.serving.protocol import Tensor

__all__ = ["column_of"]


def column_of(tensor: Tensor, feature: Feature, num_examples: int) -> pa.Array:
    """Return the column that a tensor stands for; shape ``[1, …]`` is repeated for each example.

    SparseBinary takes ``[N, K]`` with empty texts as padding, all others ``[N]``.

    Raises:
        RequestError: the shape or datatype does not fit the feature.
    """
    ndim = 2 if isinstance(feature, SparseBinary) else 1
    data = tensor.data
    if data.ndim != ndim or data.shape[0] not in (1, num_examples):
        sizes = "K]" if ndim == 2 else ""
        wanted = f"[1, {sizes} or [{num_examples}, {sizes}" if sizes else f"[1] or [{num_examples}]"
        raise RequestError(
            f"tensor {tensor.name!r} must have shape {wanted} ({type(feature).__name__} feature), "
            f"got {list(tensor.shape)}"
        )
    _check_datatype(tensor, feature)
    if data.shape[0] != num_examples:
        data = np.repeat(data, num_examples, axis=0)
    if isinstance(feature, SparseBinary):
        lists = [[value for value in row if value != ""] for row in data.tolist()]
        return pa.array(lists, pa.list_(pa.string() if tensor.datatype == "BYTES" else pa.int64()))
    if isinstance(feature, Continuous):
        return pa.array(data.astype(np.float64))
    return pa.array(data.tolist(), pa.string()) if data.dtype.kind == "O" else pa.array(data)


def _check_datatype(tensor: Tensor, feature: Feature) -> None:
    kind = tensor.data.dtype.kind
    if isinstance(feature, Continuous):
        fits, wanted = kind in "iufb", "a number"
    elif isinstance(feature, Binary):
        fits, wanted = kind == "b", "BOOL"
    elif isinstance(feature, (Categorical, SparseBinary)):
        fits, wanted = (
            kind in "iuO" or (kind == "b" and isinstance(feature, Categorical)),
            ("BYTES or an integer"),
        )
    else:
        fits, wanted = kind == "O", "BYTES"
    if not fits:
        raise RequestError(
            f"tensor {tensor.name!r} must be {wanted} ({type(feature).__name__} feature), "
            f"got {tensor.datatype}"
        )
