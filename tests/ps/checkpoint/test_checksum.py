"""The checksum is XXH64, however the bytes come."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.hashing import feature_seed
from weiml.ps.checkpoint.checksum import Checksum, checksum_of


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "ef46db3751d8e999"),
        (b"a", "d24ec4f1a98c6e5b"),
        (b"abc", "44bc2cf5ad770999"),
        (b"Nobody inspects the spammish repetition", "fbcea83c8a378bf1"),
    ],
)
def test_known_values_of_the_specification(data: bytes, digest: str) -> None:
    assert checksum_of(data) == digest


@given(st.text(max_size=200))
def test_it_equals_the_other_implementation(text: str) -> None:
    assert int(checksum_of(text.encode()), 16) == int(feature_seed(text))


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_the_cuts_between_updates_do_not_count(data: bytes, cuts: list[int]) -> None:
    checksum = Checksum()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in pairwise(places):
        checksum.update(memoryview(data)[start:stop])
    assert checksum.hexdigest() == checksum_of(data)
    assert checksum.length == len(data)


def test_every_single_changed_bit_shows(rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 100, dtype=np.uint8)
    digests = {checksum_of(data)}
    for bit in range(8 * len(data)):
        changed = data.copy()
        changed[bit // 8] ^= 1 << bit % 8
        digests.add(checksum_of(changed))
    assert len(digests) == 801


def test_arrays_of_any_type_are_taken_as_bytes(rng: np.random.Generator) -> None:
    array = rng.normal(size=(31, 7)).astype(np.float32)
    assert checksum_of(array) == checksum_of(array.tobytes())
