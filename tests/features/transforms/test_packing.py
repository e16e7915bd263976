"""Arrays to JSON and back."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import DataError
from weiml.features.transforms.packing import pack, unpack


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64, np.uint64, np.float32])
@pytest.mark.parametrize("size", [0, 3, 5000])
def test_numbers_come_back_to_the_bit(
    dtype: type[np.generic], size: int, rng: np.random.Generator
) -> None:
    array = (rng.random(size) * 1e9).astype(dtype)
    again = unpack(json.loads(json.dumps(pack(array))))
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()


def test_short_arrays_can_be_read_by_people() -> None:
    assert pack(np.array([0.1, 2.5])) == {"dtype": "float64", "values": [0.1, 2.5]}


def test_arrow_arrays_and_what_holds_them() -> None:
    value = {"a": (1, 0.5, None, "text"), "b": pa.array(["x", None, "ü"])}
    again = unpack(json.loads(json.dumps(pack(value))))
    assert again["a"] == value["a"]
    assert again["b"].equals(value["b"])


def test_a_slice_packs_as_its_values() -> None:
    whole = pa.array([f"value {i}" for i in range(2000)])
    assert pack(whole.slice(3, 4)) == pack(pa.array(whole.slice(3, 4).to_pylist()))


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", None])
def test_damaged_arrays_are_told(text: str | None) -> None:
    for key in ("arrow", "numpy"):
        with pytest.raises(DataError, match="damaged"):
            unpack({key: text})
