"""Arrays packed into flat tensors and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weiml.group.packing import buckets, from_bytes, pack, to_bytes, unpack

DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]

SHAPES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
        st.sampled_from(["float32", "float64", "int64"]),
    ),
    min_size=1,
    max_size=6,
)


@given(SHAPES, st.integers(1, 5))
def test_packed_arrays_come_back(shapes: list[tuple[tuple[int, ...], str]], multiple: int) -> None:
    rng = np.random.default_rng(1)
    arrays = [np.asarray(rng.standard_normal(shape) * 10).astype(dtype) for shape, dtype in shapes]
    packed = pack(arrays, "cpu", multiple)
    assert len(packed) == len({array.dtype for array in arrays})
    for part in packed:
        used = sum(arrays[place].size for place in part.places)
        assert part.flat.numel() % multiple == 0
        assert used <= part.flat.numel() < used + multiple
        assert not part.flat[used:].any()
    for found, array in zip(unpack(packed, arrays), arrays, strict=True):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("device", DEVICES)
def test_packing_copies(device: str) -> None:
    array = np.ones(4, np.float32)
    packed = pack([array], device, 2)
    array[:] = 7
    assert str(packed[0].flat.device) == device
    assert packed[0].flat.tolist() == [1.0] * 4
    (found,) = unpack(packed, [array])
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [1.0] * 4


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_and_strided_and_read_only_arrays(device: str) -> None:
    strided = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    fixed = np.arange(3, dtype=np.float32)
    fixed.flags.writeable = False
    tensor = torch.arange(4.0, device=device).reshape(2, 2).t()
    given_arrays = [strided, fixed, tensor]
    found = unpack(pack(given_arrays, device, 4), given_arrays)
    np.testing.assert_array_equal(found[0], strided)
    np.testing.assert_array_equal(found[1], fixed)
    assert isinstance(found[2], torch.Tensor)
    assert torch.equal(found[2], tensor)


@pytest.mark.parametrize(("length", "size", "multiple"), [(12, 16, 3), (12, 1, 4), (0, 16, 2)])
def test_buckets_cover_a_tensor_in_multiples(length: int, size: int, multiple: int) -> None:
    flat = torch.arange(float(length))
    pieces = list(buckets(flat, size, multiple))
    assert all(piece.numel() % multiple == 0 for piece in pieces)
    assert all(piece.numel() * 4 <= max(size, 4 * multiple) for piece in pieces)
    joined = torch.cat(pieces) if pieces else torch.empty(0)
    assert torch.equal(joined, flat)


@pytest.mark.parametrize("dtype", ["uint64", "float32", "bool", "<M8[s]"])
def test_bytes_of_any_dtype_come_back(dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    found = from_bytes(to_bytes(array), array)
    np.testing.assert_array_equal(found, array)
    found[:] = found[::-1].copy()  # writable


def test_bytes_of_a_tensor_come_back() -> None:
    tensor = torch.tensor([[1.5, 2.5]], dtype=torch.bfloat16)
    assert torch.equal(from_bytes(to_bytes(tensor), tensor), tensor)
