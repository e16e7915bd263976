"""Round trips of every codec: their error bounds, against other libraries' roundings where any."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weiml.ps.wire import Codec, Encoded, decode, encode

CODECS: tuple[Codec, ...] = ("float32", "float16", "bfloat16", "float8", "int8")
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895314e38, "float8": 57344.0, "int8": 3.38e38}
FLOAT32_MAX = float(np.finfo(np.float32).max)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 6)), elements=finite)


def some_of_every_size() -> np.ndarray:
    """Float32 of all signs and exponents, (n, 4)."""
    bits = np.random.default_rng(0).integers(0, 2**32, 40_000, dtype=np.uint32)
    values = bits.view(np.float32)
    return values[np.isfinite(values)][: 4 * 8000].reshape(-1, 4)


def allowed(values: np.ndarray, codec: Codec) -> np.ndarray:
    """The error that the module's table allows for each number, rounding to the nearest."""
    codec = encode(values, codec).codec
    size: np.ndarray = np.abs(values.astype(np.float64))
    if codec == "float32":
        return np.zeros_like(size)
    share, least = {"float16": (2.0**-11, 2.0**-25), "float8": (2.0**-3, 2.0**-17)}.get(
        codec, (2.0**-8, 2.0**-134)
    )
    error = size * share
    if codec == "int8":
        error = np.repeat(size.max(axis=1, keepdims=True, initial=0.0) / 252, size.shape[1], axis=1)
    cut = size.max(axis=1, keepdims=True, initial=0.0) if codec == "int8" else size
    bound: np.ndarray = np.maximum(error, least) + np.maximum(cut - LARGEST[codec], 0)
    return bound


@pytest.mark.parametrize("codec", CODECS)
@given(values=rows)
def test_a_round_trip_errs_by_no_more_than_the_table_says(codec: Codec, values: np.ndarray) -> None:
    back = decode(encode(values, codec))
    assert back.dtype == np.float32
    assert back.shape == values.shape
    assert np.isfinite(back).all()
    error = np.abs(back.astype(np.float64) - values)
    assert (error <= allowed(values, codec) * (1 + 1e-6)).all()


@pytest.mark.parametrize("codec", CODECS)
@given(values=rows)
def test_towards_zero_nothing_grows_or_changes_its_sign(codec: Codec, values: np.ndarray) -> None:
    back = decode(encode(values, codec, toward_zero=True))
    assert (np.abs(back) <= np.abs(values)).all()
    assert (back * np.sign(values) >= 0).all()
    error = np.abs(back.astype(np.float64) - values)
    assert (error <= 2 * allowed(values, codec) * (1 + 1e-6)).all()


def test_float16_is_numpys_with_what_is_too_large_cut_off() -> None:
    values = some_of_every_size()
    expected = np.clip(values, -65504, 65504).astype(np.float16)
    assert np.array_equal(encode(values, "float16").data, expected.view(np.uint16))


def test_every_finite_float16_is_read_as_numpy_reads_it() -> None:
    halves = np.arange(2**16, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))][:, None]
    back = decode(Encoded("float16", halves))
    expected = halves.view(np.float16).astype(np.float32)
    assert np.array_equal(back.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("codec", "other"), [("bfloat16", "bfloat16"), ("float8", "float8_e5m2")])
def test_bfloat16_and_float8_are_torchs_with_what_is_too_large_cut_off(
    codec: Codec, other: str
) -> None:
    import torch

    values = np.clip(some_of_every_size(), -LARGEST[codec], LARGEST[codec])
    expected = torch.from_numpy(values).to(getattr(torch, other)).float().numpy()
    assert np.array_equal(decode(encode(values, codec)), expected)


@pytest.mark.parametrize("codec", CODECS)
def test_the_largest_numbers_stay_finite(codec: Codec) -> None:
    values = np.array([[FLOAT32_MAX, -FLOAT32_MAX, 1, 0, -65519, 65520]], np.float32)
    back = decode(encode(values, codec))
    assert np.isfinite(back).all()
    assert (np.abs(back) <= np.abs(values.astype(np.float64)) * 1.01).all()


@pytest.mark.parametrize("codec", CODECS)
def test_zeros_and_empty_batches_pass(codec: Codec) -> None:
    zeros = np.zeros((3, 5), np.float32)
    assert np.array_equal(decode(encode(zeros, codec)), zeros)
    assert decode(encode(zeros[:0], codec)).shape == (0, 5)


@pytest.mark.parametrize("codec", CODECS)
def test_rows_may_be_picked_after_they_were_encoded(codec: Codec) -> None:
    values = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    places = np.array([7, 0, 3])
    picked = encode(values, codec).take(places)
    assert len(picked) == 3
    assert picked.dim == 6
    assert np.array_equal(decode(picked), decode(encode(values[places], codec)))


@pytest.mark.parametrize(
    ("codec", "nbytes"),
    [("float32", 640), ("float16", 320), ("bfloat16", 320), ("float8", 160), ("int8", 180)],
)
def test_bytes_are_what_the_table_says(codec: Codec, nbytes: int) -> None:
    assert encode(np.ones((10, 16), np.float32), codec).nbytes == nbytes


@pytest.mark.parametrize(("dim", "codec"), [(1, "bfloat16"), (2, "bfloat16"), (3, "int8")])
def test_rows_too_narrow_for_a_scale_of_their_own_are_sent_without(dim: int, codec: str) -> None:
    encoded = encode(np.ones((10, dim), np.float32), "int8")
    assert encoded.codec == codec
    assert encoded.nbytes == 10 * (dim + 2 if codec == "int8" else 2 * dim)


def test_encoded_rows_are_pickled_without_copying_their_arrays() -> None:
    encoded = encode(np.ones((1000, 16), np.float32), "int8")
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(encoded, protocol=5, buffer_callback=buffers.append)
    assert len(head) < 500
    back = pickle.loads(head, buffers=buffers)
    assert np.array_equal(decode(back), decode(encoded))
