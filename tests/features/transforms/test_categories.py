"""Hashed ids are the encoder's; vocabularies are counted, ordered and bounded."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import Hashing, Vocabulary, fitted_from_mapping
from weiml.features.transforms.categories import FittedVocabulary
from weiml.hashing import hash_key, hash_values


def table(values: Any, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


def test_ids_are_those_of_the_hash() -> None:
    values = table(["a", None, "b"])
    made = Hashing("x").fit(values).apply(values).column("x").to_pylist()
    assert made == [hash_key("x", "a"), hash_key("x", None), hash_key("x", "b")]
    named = Hashing("x", output="y", feature="f").fit(values).apply(values).column("y")
    assert named.to_numpy().tolist() == hash_values("f", values.column("x")).tolist()


def test_buckets_are_the_first_bits(rng: np.random.Generator) -> None:
    values = table(rng.integers(0, 10**9, 20_000))
    made = Hashing("x", bits=4).fit(values).apply(values).column("x")
    assert made.type == pa.int32()
    counts = np.bincount(made.to_numpy(), minlength=16)
    assert counts.size == 16
    assert np.abs(counts - 1250).max() < 200
    ids = Hashing("x").fit(values).apply(values).column("x").to_numpy()
    assert (made.to_numpy() == ids >> np.uint64(60)).all()


def test_lists_keep_their_lengths() -> None:
    values = table([["a", "b"], None, [], ["a", None]])
    made = Hashing("x").fit(values).apply(values).column("x").to_pylist()
    a, b, gone = (hash_key("x", v) for v in ("a", "b", None))
    assert made == [[a, b], None, [], [a, gone]]
    made = Vocabulary("x").fit(values).apply(values).column("x").to_pylist()
    assert made == [[2, 3], None, [], [2, 0]]
    fixed = table([[1, 2], None, [3, 1]], pa.list_(pa.int32(), 2))
    made = Vocabulary("x").fit(fixed).apply(fixed).column("x").to_pylist()
    assert made == [[2, 3], None, [4, 2]]


def test_a_vocabulary_is_ordered_by_count_then_value() -> None:
    values = table(["b", "a", "c", "c", "d", None, "ä"])
    fitted = Vocabulary("x", max_size=4).fit(values)
    assert isinstance(fitted, FittedVocabulary)
    assert fitted.values.to_pylist() == ["c", "a", "b", "d"]
    test = table(["c", "a", "b", "d", "ä", "new", "", None])
    assert fitted.apply(test).column("x").to_pylist() == [2, 3, 4, 5, 1, 1, 1, 0]


def test_integers_and_their_text_are_one_value() -> None:
    fitted = Vocabulary("x").fit(table([5, 5, -1]))
    assert fitted.apply(table(["-1", "5", "05"])).column("x").to_pylist() == [3, 2, 1]
    assert Vocabulary("x").fit(table([True, False, True])).to_mapping() == (
        Vocabulary("x").fit(table(["true", "false", "true"])).to_mapping()
    )


def test_unknown_values_share_numbers_by_their_hash() -> None:
    fitted = Vocabulary("x", oov=10).fit(table(["known"]))
    made = fitted.apply(table([f"v{i}" for i in range(2000)])).column("x").to_numpy()
    assert set(made) == set(range(1, 11))
    assert np.abs(np.bincount(made)[1:] - 200).max() < 80
    assert fitted.apply(table(["known"])).column("x").to_pylist() == [11]


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 4), st.integers(1, 40))
def test_counts_against_a_counter(values: list[int], least: int, most: int) -> None:
    counts = Counter(values)
    kept = [(-n, str(v)) for v, n in counts.items() if n >= least]
    expected = [value for _, value in sorted(kept)][:most]
    seen = Vocabulary("x", min_count=least, max_size=most).accumulator()
    for start in range(0, len(values) or 1, 7):
        seen.add(table(values[start : start + 7], pa.int64()))
    if values:
        fitted = seen.fitted()
        assert isinstance(fitted, FittedVocabulary)
        assert fitted.values.to_pylist() == expected


def test_bounded_counts_keep_what_is_frequent(rng: np.random.Generator) -> None:
    drawn = rng.zipf(1.3, 30_000) % 5000
    bounded = Vocabulary("x", max_candidates=100)
    parts = [bounded.accumulator() for _ in range(3)]
    for i, block in enumerate(np.split(drawn, 30)):
        parts[i % 3].add(table(block))
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    fitted = parts[0].fitted()
    exact = Vocabulary("x").fit(table(drawn))
    assert isinstance(fitted, FittedVocabulary)
    assert isinstance(exact, FittedVocabulary)
    assert 0 < fitted.error <= drawn.size / 100
    assert exact.error == 0
    frequent = [v for v, n in Counter(drawn.tolist()).items() if n > 2 * fitted.error]
    assert {str(v) for v in frequent} <= set(fitted.values.to_pylist())
    assert fitted.values.to_pylist()[:3] == exact.values.to_pylist()[:3]


def test_long_vocabularies_are_packed_in_files() -> None:
    fitted = Vocabulary("x").fit(table([f"value {i}" for i in range(5000)]))
    text = json.dumps(fitted.to_mapping())
    assert fitted_from_mapping(json.loads(text)) == fitted
    tree = json.loads(text)
    tree["state"]["values"]["arrow"] = tree["state"]["values"]["arrow"][:99]
    with pytest.raises(DataError, match="cannot be read"):
        fitted_from_mapping(tree)


@pytest.mark.parametrize("option", ["min_count", "max_size", "oov", "max_candidates"])
def test_wrong_options_are_told(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        Vocabulary("x", **{option: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bits"):
        Hashing("x", bits=32)


def test_nulls_of_a_dictionary_are_missing() -> None:
    fitted = Vocabulary("x").fit(table(["a", "b"]))
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    lists = pa.ListArray.from_arrays([0, 2, 3], coded)
    assert fitted.apply(pa.table({"x": coded}))["x"].to_pylist() == [2, 0, 0]
    assert fitted.apply(pa.table({"x": lists}))["x"].to_pylist() == [[2, 0], [0]]
