"""The encoder against a row-by-row reference in plain Python, and its errors."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features import (
    Binary,
    Categorical,
    Continuous,
    Cross,
    FeatureEncoder,
    FeatureSpec,
    SparseBinary,
    Text,
    count_collisions,
)
from weiml.hashing import TypeTag, cross_keys, feature_seed, hash_key

SPEC = FeatureSpec(
    features=(
        Categorical("user_id"),
        Categorical("city"),
        Binary("member"),
        Continuous("age", buckets=4, transform="log1p"),
        SparseBinary("genres"),
        Text("title", max_tokens=3),
    ),
    crosses=(
        Cross("city_x_genre", of=("city", "genres")),
        Cross("three", of=("user_id", "age", "title")),
    ),
)
SCHEMA = pa.schema(
    {
        "user_id": pa.int64(),
        "city": pa.string(),
        "member": pa.bool_(),
        "age": pa.float64(),
        "genres": pa.list_(pa.string()),
        "title": pa.string(),
        "item_id": pa.int32(),
        "timestamp": pa.int64(),
        "label": pa.int8(),
    }
)
rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.integers(-5, 5),
            "city": st.one_of(st.none(), st.sampled_from(["", "北京", "Wien"])),
            "member": st.one_of(st.none(), st.booleans()),
            "age": st.one_of(st.none(), st.floats(0, 100)),
            "genres": st.one_of(st.none(), st.lists(st.sampled_from("xyz"), max_size=3)),
            "title": st.one_of(st.none(), st.sampled_from(["", "Heat", "Se7en (1995) a b c"])),
            "item_id": st.integers(0, 9),
            "timestamp": st.integers(0, 99),
            "label": st.integers(0, 1),
        }
    ),
    min_size=1,
    max_size=12,
)


def reference_cross(name: str, members: list[list[int]]) -> list[int]:
    keys = []
    for combination in itertools.product(*members):
        key = np.array([feature_seed(name, TypeTag.CROSS)], np.uint64)
        for member in combination:
            key = cross_keys(key, np.array([member], np.uint64))
        keys.append(int(key[0]))
    return keys


def reference_keys(row: dict[str, Any], boundaries: list[float]) -> list[list[int]]:
    """The keys of one row's slots, written out from the documented rules."""
    age = None if row["age"] is None else math.log1p(row["age"])
    bucket = None if age is None else sum(age >= b for b in boundaries)
    tokens = [t for t in re.split(r"[^\w]+", (row["title"] or "").lower()) if t][:3]
    slots = {
        "user_id": [hash_key("user_id", row["user_id"])],
        "city": [hash_key("city", row["city"])],
        "member": [hash_key("member", True, TypeTag.BINARY)] if row["member"] else [],
        "age": [hash_key("age", bucket, TypeTag.CONTINUOUS)],
        "genres": [hash_key("genres", g, TypeTag.SPARSE_BINARY) for g in row["genres"] or []],
        "title": [hash_key("title", t, TypeTag.TEXT) for t in tokens],
    }
    slots["city_x_genre"] = reference_cross("city_x_genre", [slots["city"], slots["genres"]])
    slots["three"] = reference_cross("three", [slots["user_id"], slots["age"], slots["title"]])
    return [slots[name] for name in SPEC.slots]


@given(rows_of)
def test_encode_equals_the_reference(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    encoder = FeatureEncoder(SPEC).fit(table)
    batch = encoder.encode(table)
    batch.validate()
    ages = np.array([np.nan if r["age"] is None else math.log1p(r["age"]) for r in rows])
    known = ages[~np.isnan(ages)]
    boundaries = np.unique(np.quantile(known, [0.25, 0.5, 0.75])).tolist() if known.size else []
    for b, row in enumerate(rows):
        S = len(SPEC.slots)
        got = [
            batch.keys[batch.offsets[b * S + s] : batch.offsets[b * S + s + 1]].tolist()
            for s in range(S)
        ]
        assert got == reference_keys(row, boundaries)
        assert batch.labels[b, 0] == row["label"]
        assert batch.items[b] == hash_key("item_id", row["item_id"])
    if known.size and known.std() > 0:
        expected = np.nan_to_num((ages - known.mean()) / known.std())
        np.testing.assert_allclose(batch.dense[:, 0], expected, rtol=1e-5, atol=1e-5)


@given(rows_of, st.integers(0, 5))
def test_rows_encode_alike_alone_and_together(rows: list[dict[str, Any]], pick: int) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    encoder = FeatureEncoder(SPEC).fit(table)
    pick = min(pick, len(rows) - 1)
    alone, together = encoder.encode(table.slice(pick, 1)), encoder.encode(table)
    np.testing.assert_array_equal(alone.keys, together.slice(pick, pick + 1).keys)
    np.testing.assert_array_equal(alone.dense, together.dense[pick : pick + 1])


def small() -> pa.Table:
    row = {
        "user_id": 1, "city": "Wien", "member": True, "age": 3.0, "genres": ["x"],
        "title": "Heat", "item_id": 2, "timestamp": 3, "label": 1,
    }  # fmt: skip
    return pa.Table.from_pylist([row, row | {"age": 9.0, "genres": ["y"]}], SCHEMA)


def test_saved_encoder_encodes_alike(tmp_path: Path) -> None:
    encoder = FeatureEncoder(SPEC).fit(small())
    encoder.save(tmp_path / "encoder.json")
    loaded = FeatureEncoder.load(tmp_path / "encoder.json")
    assert loaded.spec == SPEC
    np.testing.assert_array_equal(loaded.encode(small()).keys, encoder.encode(small()).keys)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.json"]


def test_serving_needs_no_label_and_strings_stand_for_integers() -> None:
    encoder = FeatureEncoder(SPEC).fit(small())
    request = small().drop_columns(["label"])
    request = request.set_column(0, "user_id", pa.array(["1", "1"]))
    batch = encoder.encode(request, labels=False)
    np.testing.assert_array_equal(batch.keys, encoder.encode(small()).keys)
    assert batch.labels.sum() == 0


def test_key_names_cover_every_plain_key() -> None:
    encoder = FeatureEncoder(SPEC).fit(small())
    names = encoder.key_names(small())
    batch = encoder.encode(small())
    crossed = {"city_x_genre", "three"}
    plain = [s for s, name in enumerate(SPEC.slots) if name not in crossed]
    S = len(SPEC.slots)
    used = {
        int(key)
        for b in range(2)
        for s in plain
        for key in batch.keys[batch.offsets[b * S + s] : batch.offsets[b * S + s + 1]]
    }
    assert used <= set(names["key"].to_pylist())
    assert count_collisions(names) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["genres"]), "column 'genres' is missing"),
        (lambda t: t.rename_columns({"genres": "genre"}), "did you mean 'genre'"),
        (lambda t: t.set_column(3, "age", pa.array(["a", "b"])), "'age' is Continuous.*string"),
        (lambda t: t.set_column(4, "genres", pa.array(["a", "b"])), "'genres' is SparseBinary"),
        (lambda t: t.set_column(1, "city", pa.array([1.5, 2.5])), "'city'.*1.5.*has no id"),
        (lambda t: t.set_column(3, "age", pa.array([-1.0, 2.0])), "log1p needs numbers above -1"),
        (lambda t: t.set_column(8, "label", pa.array(["y", "n"])), "'label' must hold numbers"),
        (lambda t: t.set_column(8, "label", pa.array([None, 1.0])), "'label' has missing"),
    ],
)
def test_errors_name_the_column(change: Any, message: str) -> None:
    encoder = FeatureEncoder(SPEC).fit(small())
    with pytest.raises(DataError, match=message):
        encoder.encode(change(small()))


def test_unfitted_empty_and_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not fitted"):
        FeatureEncoder(SPEC).encode(small())
    with pytest.raises(DataError, match="empty table"):
        FeatureEncoder(SPEC).fit(small().slice(0, 0))
    with pytest.raises(DataError, match="does not exist"):
        FeatureEncoder.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="not an encoder file"):
        FeatureEncoder.load(tmp_path / "bad.json")


def raw(**columns: Any) -> pa.Table:
    rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [7, 8], "label": [0, 1]}
    return pa.table(rows | columns)


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ms", "UTC")])
def test_timestamps_become_seconds(kind: pa.DataType) -> None:
    times = pa.array([7_000, 8_999], pa.timestamp("ms")).cast(kind)
    batch = FeatureEncoder(FeatureSpec(features=(Categorical("user_id"),))).encode(
        raw(timestamp=times)
    )
    batch.validate()
    assert batch.times.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([7, None], "'timestamp' has 1 missing values"),
        (["7", "8"], "'timestamp' must hold seconds or timestamps, got string"),
        ([7.0, 8.5], "'timestamp' must hold whole seconds"),
    ],
)
def test_times_that_are_none_are_named(times: list[Any], message: str) -> None:
    encoder = FeatureEncoder(FeatureSpec(features=(Categorical("user_id"),)))
    with pytest.raises(DataError, match=message):
        encoder.encode(raw(timestamp=times))


def test_a_column_that_was_constant_in_training_stays_finite() -> None:
    encoder = FeatureEncoder(FeatureSpec(features=(Continuous("age"),)))
    encoder.fit(raw(age=[5.0, 5.0]))
    assert encoder.encode(raw(age=[5.0, 7.0])).dense.tolist() == [[0.0], [2.0]]


def test_infinite_numbers_are_missing() -> None:
    encoder = FeatureEncoder(FeatureSpec(features=(Continuous("age", buckets=2),)))
    encoder.fit(raw(age=[1.0, 3.0]))
    infinite, missing = (encoder.encode(raw(age=[1.0, x])) for x in (math.inf, None))
    assert infinite.dense.tolist() == missing.dense.tolist() == [[-1.0], [0.0]]
    assert infinite.keys.tolist() == missing.keys.tolist()


@given(rows_of, st.integers(1, 4), st.booleans())
def test_fitting_in_parts_encodes_like_fitting_on_all(
    rows: list[dict[str, Any]], size: int, merged: bool
) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    parts = [table.slice(at, size) for at in range(0, len(rows), size)]
    if merged:
        whole = FeatureEncoder(SPEC).accumulator()
        for part in parts:
            one = FeatureEncoder(SPEC).accumulator()
            one.add(part)
            whole.merge(one)
        encoder = whole.fitted()
    else:
        encoder = FeatureEncoder(SPEC).fit(iter(parts))
    at_once = FeatureEncoder(SPEC).fit(table).encode(table)
    np.testing.assert_array_equal(encoder.encode(table).keys, at_once.keys)
    np.testing.assert_allclose(encoder.encode(table).dense, at_once.dense, rtol=1e-4, atol=1e-4)


def test_accumulators_of_other_specs_do_not_merge() -> None:
    other = FeatureSpec(features=(Continuous("age", buckets=2),))
    with pytest.raises(DataError, match="different feature specs"):
        FeatureEncoder(SPEC).accumulator().merge(FeatureEncoder(other).accumulator())
    with pytest.raises(DataError, match="empty table"):
        FeatureEncoder(SPEC).fit([])


def test_encoders_of_before_type_tags_are_refused(tmp_path: Path) -> None:
    FeatureEncoder(SPEC).fit(small()).save(tmp_path / "encoder.json")
    text = (tmp_path / "encoder.json").read_text().replace('"format": 2', '"format": 1')
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(DataError, match="format 1, this weiml reads 2: fit the encoder"):
        FeatureEncoder.load(tmp_path / "encoder.json")


def test_transforms_of_a_spec_come_before_its_features_and_travel_with_it(tmp_path: Path) -> None:
    tree = {
        "transforms": [
            {"type": "log1p", "column": "price", "output": "log"},
            {"type": "quantile", "column": "log", "buckets": 2, "output": "bucket"},
            {"type": "time_parts", "column": "timestamp", "parts": ["hour"]},
        ],
        "features": [
            {"type": "categorical", "name": "bucket"},
            {"type": "continuous", "name": "log"},
            {"type": "categorical", "name": "timestamp_hour"},
        ],
    }
    spec = FeatureSpec.from_mapping(tree)
    assert FeatureSpec.from_mapping(spec.to_mapping()) == spec
    assert spec.preparation is not None
    assert len(spec.preparation.stages) == 2
    table = pa.table(
        {"price": [1.0, 2.0, 8.0, 9.0], "timestamp": [0, 3600, 7200, 7300], "label": [0, 1, 0, 1]}
    )
    once = FeatureEncoder(spec).fit(table.slice(at, 1) for at in range(4))
    again = FeatureEncoder(spec).fit([table.slice(0, 2), table.slice(2)])
    once.save(tmp_path / "encoder.json")
    loaded = FeatureEncoder.load(tmp_path / "encoder.json")
    expected = once.encode(table)
    np.testing.assert_allclose(expected.dense.mean(), 0.0, atol=1e-6)
    assert len(set(expected.keys[::2].tolist())) == 2
    for other in (again, loaded):
        np.testing.assert_array_equal(other.encode(table).keys, expected.keys)
        np.testing.assert_array_equal(other.encode(table).dense, expected.dense)
    part = FeatureEncoder(spec).accumulator()
    part.add(table)
    with pytest.raises(DataError, match="another pass"):
        part.fitted()
    with pytest.raises(ConfigError, match="unknown transform 'lgo1p'"):
        FeatureSpec.from_mapping(tree | {"transforms": [{"type": "lgo1p", "column": "price"}]})


def prepared_spec(*features: dict[str, Any]) -> FeatureSpec:
    transform = {"type": "quantile", "column": "price", "buckets": 2, "output": "bucket"}
    bucket = {"type": "categorical", "name": "bucket"}
    return FeatureSpec.from_mapping({"transforms": [transform], "features": [bucket, *features]})


@pytest.mark.parametrize("continuous", [0, 1])
def test_only_continuous_features_take_a_pass_after_the_transforms(continuous: int) -> None:
    passes = 0

    class Tables:
        def __iter__(self) -> Iterator[pa.Table]:
            nonlocal passes
            passes += 1
            return iter([pa.table({"price": [1.0, 2.0]}), pa.table({"price": [8.0, 9.0]})])

    spec = prepared_spec(*[{"type": "continuous", "name": "price"}][:continuous])
    encoder = FeatureEncoder(spec).fit(Tables())
    assert passes == 1 + continuous
    keys = encoder.encode(pa.table({"price": [1.0, 1.5, 9.0]}), labels=False).keys.tolist()
    assert keys[0] == keys[1] != keys[2]
    parts = [FeatureEncoder(spec).accumulator() for _ in range(2)]
    for part, table in zip(parts, Tables(), strict=True):
        part.add(table)
    parts[0].merge(parts[1])
    if not continuous:
        assert parts[0].then() is None
        table = pa.table({"price": [1.0, 1.5, 9.0]})
        assert parts[0].fitted().encode(table, labels=False).keys.tolist() == keys


def damaged(tree: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (tree | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prepared": None}, "not of the spec's transforms"),
        ({"prepared": []}, "cannot be read"),
        ({"prepared": {"transform": {"type": "log1p", "column": "x"}, "state": {}}}, "not of the"),
        ({"scales": None}, "KeyError"),
        ({"scales": []}, r"must be of \['price'\], got \[\]"),
        ({"scales": {}}, r"must be of \['price'\], got \[\]"),
        ({"scales": {"prize": {}}}, r"got \['prize'\]"),
        ({"scales": {"price": 1}}, "not an encoder file"),
        ({"scales": {"price": {"mean": 0, "deviation": 1}}}, "boundaries"),
        ({"scales": {"price": {"mean": "x", "deviation": 1, "boundaries": []}}}, "not an encoder"),
        ({"scales": {"price": {"mean": 0, "deviation": 0, "boundaries": []}}}, "scale of 'price'"),
        ({"scales": {"price": {"mean": 0, "deviation": 1, "boundaries": [2, 1]}}}, "is none"),
        ({"spec": {"features": []}}, "at least one feature"),
        ({"spec": 5}, "not an encoder file"),
    ],
)
def test_files_that_do_not_fit_their_spec_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "encoder.json"
    table = pa.table({"price": [1.0, 2.0, 8.0, 9.0]})
    encoder = FeatureEncoder(prepared_spec({"type": "continuous", "name": "price"})).fit(table)
    encoder.save(file)
    tree = json.loads(file.read_text())
    file.write_text(json.dumps(damaged(tree)))
    loaded = FeatureEncoder.load(file)
    assert (
        loaded.encode(table, labels=False).dense == encoder.encode(table, labels=False).dense
    ).all()
    file.write_text(json.dumps(damaged(tree, **changes)))
    with pytest.raises(DataError, match=message) as raised:
        FeatureEncoder.load(file)
    assert str(file) in str(raised.value)


def test_transforms_that_the_spec_has_not_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "encoder.json"
    FeatureEncoder(FeatureSpec(features=(Categorical("c"),))).save(file)
    fitted = FeatureEncoder(prepared_spec()).fit(pa.table({"price": [1.0]}))._prepared
    assert fitted is not None
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prepared": fitted.to_mapping()}))
    with pytest.raises(DataError, match="not of the spec's transforms"):
        FeatureEncoder.load(file)
    file.write_text("[]")
    with pytest.raises(DataError, match="not an encoder file"):
        FeatureEncoder.load(file)
