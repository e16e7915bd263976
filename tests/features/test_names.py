"""What keys stand for: collected in parts, kept in a file, looked up, collisions counted."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.features import (
    Binary,
    Categorical,
    Continuous,
    Cross,
    FeatureEncoder,
    FeatureSpec,
    KeyNames,
    Sequence,
    SparseBinary,
    SparseContinuous,
    Text,
    feature_ids,
)
from weiml.features.lists import padding_key
from weiml.features.names import PADDING, collisions_of
from weiml.hashing import TypeTag, feature_seed, hash_key

SPEC = FeatureSpec(
    features=(
        Categorical("item"),
        Binary("member"),
        Continuous("age", buckets=3),
        Continuous("rate"),
        SparseBinary("genres"),
        SparseContinuous("tfidf"),
        Sequence("history", ids_of="item", length=3),
        Sequence("words"),
        Text("title", max_tokens=2),
    ),
    crosses=(Cross("both", of=("item", "genres")),),
)
SCHEMA = pa.schema(
    {
        "item": pa.int64(),
        "member": pa.bool_(),
        "age": pa.float64(),
        "rate": pa.float64(),
        "genres": pa.list_(pa.string()),
        "tfidf": pa.map_(pa.string(), pa.float64()),
        "history": pa.list_(pa.int32()),
        "words": pa.list_(pa.string()),
        "title": pa.string(),
    }
)
rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "item": st.one_of(st.none(), st.integers(-3, 3)),
            "member": st.booleans(),
            "age": st.one_of(st.none(), st.floats(0, 9)),
            "rate": st.just(1.0),
            "genres": st.lists(st.sampled_from("xyz"), max_size=2),
            "tfidf": st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), max_size=2),
            "history": st.lists(st.integers(2, 6), max_size=4),
            "words": st.one_of(st.none(), st.lists(st.sampled_from("uv"), max_size=2)),
            "title": st.sampled_from(["", "One two three", "ONE"]),
        }
    ),
    min_size=1,
    max_size=9,
)


def collected(tables: list[pa.Table]) -> KeyNames:
    names = KeyNames()
    for table in tables:
        names.add(SPEC, table)
    return names


def pairs(names: KeyNames) -> set[tuple[Any, ...]]:
    rows = [tuple(row.values()) for row in names.to_table().to_pylist()]
    assert len(set(rows)) == len(rows)
    return set(rows)


@given(rows_of, st.integers(1, 4))
def test_every_plain_key_is_described_however_it_was_collected(
    rows: list[dict[str, Any]], size: int
) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    parts = [table.slice(at, size) for at in range(0, len(rows), size)]
    names = collected([table])
    assert pairs(names) == pairs(collected(parts))
    merged = KeyNames()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(collected([part]))))
    assert pairs(names) == pairs(merged)

    batch = FeatureEncoder(SPEC).fit(table).encode(table, labels=False)
    described = names.describe(batch.keys).to_pylist()
    slots = np.tile(batch.slots, len(batch)).repeat(np.diff(batch.offsets))
    for key, slot, row in zip(batch.keys.tolist(), slots, described, strict=True):
        if slot == "both":
            assert row == {"key": key, "feature": None, "type": None, "value": None}
        elif row["value"] == PADDING:
            assert (row["feature"], row["type"]) == ("history", "sequence")
            assert key == padding_key(SPEC.features[6])  # type: ignore[arg-type]
        else:
            assert row["feature"] == {"history": "item"}.get(slot, slot)
            tag = TypeTag[row["type"].upper()]
            assert hash_key(row["feature"], row["value"], tag) == key


def table_of(**columns: Any) -> pa.Table:
    row = {"item": 7, "member": True, "age": 1.0, "rate": 1.0, "genres": ["x"], "tfidf": []}
    row |= {"history": [7, 8], "words": [], "title": "One"} | columns
    return pa.Table.from_pylist([row], SCHEMA)


def test_names_come_back_from_a_file(tmp_path: Path) -> None:
    names = collected([table_of(), table_of(item=None)])
    names.save(tmp_path / "keys.parquet")
    loaded = KeyNames.load(tmp_path / "keys.parquet")
    assert pairs(loaded) == pairs(names)
    assert [path.name for path in tmp_path.iterdir()] == ["keys.parquet"]
    loaded.add(SPEC, table_of(item=9))
    found = loaded.describe(np.array([hash_key("item", 9), 1, hash_key("item", None)], np.uint64))
    assert found["value"].to_pylist() == ["9", None, None]
    assert found["feature"].to_pylist() == ["item", None, "item"]
    KeyNames().save(tmp_path / "empty.parquet")
    assert KeyNames.load(tmp_path / "empty.parquet").to_table().num_rows == 0
    assert KeyNames().describe(np.array([5], np.uint64))["feature"].to_pylist() == [None]


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no key names at"):
        KeyNames.load(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="bad.parquet is not a file of key names"):
        KeyNames.load(tmp_path / "bad.parquet")
    table = collected([table_of()]).to_table()
    for name, column, message in (
        ("key", pa.array(np.arange(len(table)), pa.uint64()), "are not those of its values"),
        ("type", pa.array(["txt"] * len(table)), "unknown feature type 'txt'; did you mean 'text'"),
    ):
        wrong = table.set_column(table.column_names.index(name), name, column)
        pq.write_table(wrong, tmp_path / "wrong.parquet")
        with pytest.raises(DataError, match=f"wrong.parquet: .*{message}"):
            KeyNames.load(tmp_path / "wrong.parquet")
    pq.write_table(table.drop_columns(["type"]), tmp_path / "old.parquet")
    with pytest.raises(DataError, match="old.parquet is not a file of key names"):
        KeyNames.load(tmp_path / "old.parquet")


def test_collisions_are_counted_within_and_across_features() -> None:
    rows = [
        (1, "item", "categorical", "a"),
        (1, "item", "categorical", "b"),  # within
        (1, "title", "text", "a"),  # across
        (2, "item", "categorical", "c"),
        (2, "item", "categorical", "c"),  # the same again: none
        (3, "title", "text", None),
        (3, "title", "text", "null"),  # within
    ]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("key", *FIELDS))}
    table = pa.table(columns, schema=KeyNames().to_table().schema)
    found = collisions_of(table)
    assert (found.values, found.lost, found.across) == (6, 3, 1)
    assert found.by_feature == {"item": (3, 1), "title": (3, 1)}
    assert found.expected == 6 * 5 / 2**65
    assert found.rows["key"].to_pylist() == [1, 1, 1, 3, 3]


FIELDS = ("feature", "type", "value")


def test_a_shared_id_is_no_collision() -> None:
    found = collected([table_of(item=7, history=[7])]).collisions()
    assert (found.lost, found.across, found.rows.num_rows) == (0, 0, 0)


def test_features_have_ids_of_type_and_name() -> None:
    rows = {row["feature"]: row for row in feature_ids(SPEC).to_pylist()}
    assert list(rows) == [f.name for f in SPEC.features] + ["both"]
    assert rows["title"]["id"] == int(feature_seed("title", TypeTag.TEXT))
    assert rows["both"] == {
        "id": int(feature_seed("both", TypeTag.CROSS)), "feature": "both", "type": "cross"
    }  # fmt: skip


def test_many_texts_are_made_distinct_on_the_way() -> None:
    names = KeyNames()
    spec = FeatureSpec(features=(Categorical("item"),))
    for start in range(0, 200_000, 20_000):
        numbers = np.arange(start, start + 40_000) % 150_000
        names.add(spec, pa.table({"item": numbers}))
    assert names.to_table().num_rows == 150_000
    assert names.collisions().lost == 0
