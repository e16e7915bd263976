"""Named numbers and histories of ids: against plain Python, in every Arrow form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features import (
    Batch,
    Categorical,
    Cross,
    FeatureEncoder,
    FeatureSpec,
    Sequence,
    SparseBinary,
    SparseContinuous,
)
from weiml.features.lists import padding_key
from weiml.hashing import TypeTag, hash_key

NUMBERS = SparseContinuous("tfidf")
PARALLEL = SparseContinuous("tfidf", values="weights")
ENTRY = pa.struct({"key": pa.string(), "value": pa.float64()})
Entries = list[list[tuple[str, float | None]] | None]
numbers_of = st.one_of(st.none(), st.floats(width=32), st.sampled_from([1e300, 0.0]))
entries_of = st.lists(
    st.one_of(st.none(), st.lists(st.tuples(st.sampled_from("abc"), numbers_of), max_size=4)),
    min_size=1,
    max_size=8,
)


def encode(table: pa.Table, *features: Any, crosses: tuple[Cross, ...] = ()) -> Batch:
    spec = FeatureSpec(features=features, crosses=crosses)
    batch = FeatureEncoder(spec).encode(table, labels=False)
    batch.validate()
    return batch


def cells(batch: Batch, slot: str) -> list[list[tuple[int, float]]]:
    S, s = len(batch.slots), batch.slots.index(slot)
    values = np.ones(batch.keys.size) if batch.values is None else batch.values
    found = []
    for b in range(len(batch)):
        cell = slice(batch.offsets[b * S + s], batch.offsets[b * S + s + 1])
        found.append(list(zip(batch.keys[cell].tolist(), values[cell].tolist(), strict=True)))
    return found


def forms(data: Entries) -> list[tuple[pa.Table, SparseContinuous]]:
    """The same entries as maps, as lists of structs and as parallel lists."""
    keys = [None if row is None else [key for key, _ in row] for row in data]
    numbers = [None if row is None else [number for _, number in row] for row in data]
    structs = [None if row is None else [{"key": k, "value": v} for k, v in row] for row in data]
    return [
        (pa.table({"tfidf": pa.array(data, pa.map_(pa.string(), pa.float64()))}), NUMBERS),
        (pa.table({"tfidf": pa.array(structs, pa.list_(ENTRY))}), NUMBERS),
        (pa.table({"tfidf": pa.array(structs, pa.large_list(ENTRY))}), NUMBERS),
        (
            pa.table(
                {
                    "tfidf": pa.array(keys, pa.list_(pa.string())),
                    "weights": pa.array(numbers, pa.list_(pa.float64())),
                }
            ),
            PARALLEL,
        ),
    ]


@given(entries_of, st.integers(0, 3))
def test_each_finite_entry_has_its_key_and_its_number(data: Entries, skip: int) -> None:
    kept = [
        [
            (hash_key("tfidf", key, TypeTag.SPARSE_CONTINUOUS), x)
            for key, x in row or []
            if x is not None and math.isfinite(x) and abs(x) <= float(np.finfo(np.float32).max)
        ]
        for row in data
    ]
    for table, feature in forms(data):
        assert cells(encode(table, feature), "tfidf") == kept
        assert cells(encode(table.slice(skip), feature), "tfidf") == kept[skip:]


def test_integers_may_be_keys_and_numbers() -> None:
    table = pa.table({"tfidf": pa.array([[(7, 2)], []], pa.map_(pa.int32(), pa.int8()))})
    wanted = [[(hash_key("tfidf", "7", TypeTag.SPARSE_CONTINUOUS), 2.0)], []]
    assert cells(encode(table, NUMBERS), "tfidf") == wanted


def test_values_are_1_for_other_slots_and_multiply_in_crosses() -> None:
    table = pa.table(
        {
            "city": ["a", "b"],
            "tfidf": pa.array([[("x", 2.0), ("y", 3.0)], [("x", -1.0)]], forms([])[0][0][0].type),
            "tags": [["p", "q"], None],
        }
    )
    crosses = (Cross("both", of=("tfidf", "tags")), Cross("self", of=("tfidf", "tfidf")))
    batch = encode(table, Categorical("city"), NUMBERS, SparseBinary("tags"), crosses=crosses)
    values = {slot: [[v for _, v in cell] for cell in cells(batch, slot)] for slot in batch.slots}
    assert values == {
        "city": [[1.0], [1.0]],
        "tfidf": [[2.0, 3.0], [-1.0]],
        "tags": [[1.0, 1.0], []],
        "both": [[2.0, 2.0, 3.0, 3.0], []],
        "self": [[4.0, 6.0, 6.0, 9.0], [1.0]],
    }


@pytest.mark.parametrize("data", [[None, []], [[("x", 1.0)], []]])
def test_batches_have_values_whether_or_not_they_have_entries(data: Entries) -> None:
    for table, feature in forms(data):
        batch = encode(table, feature)
        assert batch.values is not None
        assert Batch.from_arrow(batch.to_arrow()).values is not None
        for part in (batch.slice(0, 1), batch.take(np.array([1, 0])), Batch.concat([batch] * 2)):
            part.validate()
            assert part.values is not None


@pytest.mark.parametrize(
    ("feature", "columns", "message"),
    [
        (NUMBERS, {"tfidf": [["x"]]}, "'tfidf'.*are not .key, value.*name it with values="),
        (NUMBERS, {"tfidf": [1.0]}, "'tfidf' is SparseContinuous and must hold maps"),
        (
            NUMBERS,
            {"tfidf": [[{"key": "x", "value": "y"}]]},
            "'tfidf': values must be numbers, got str",
        ),
        (PARALLEL, {"tfidf": [["x"]]}, "column 'weights' is missing"),
        (PARALLEL, {"tfidf": [["x"]], "weights": [1.0]}, "both columns must be lists"),
        (
            PARALLEL,
            {"tfidf": [["x"], ["x"]], "weights": [[1.0], [1.0, 2.0]]},
            "row 1 has 1 keys but 2 numbers in 'weights'",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_named(
    feature: SparseContinuous, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode(pa.table(columns), feature)


histories_of = st.lists(
    st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=7)),
    min_size=1,
    max_size=8,
)


@given(
    histories_of,
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(["last", "first"]),
    st.booleans(),
)
def test_histories_against_slices_of_lists(
    data: list[list[int | None] | None], limit: int, fixed: bool, keep: Any, shared: bool
) -> None:
    feature = Sequence(
        "history",
        max_length=50 if fixed else limit,
        length=limit if fixed else None,
        keep=keep,
        ids_of="item" if shared else None,
    )
    kind = pa.list_(pa.int64())
    table = pa.table({"item": [1] * len(data), "history": pa.array(data, kind)})
    name, tag = ("item", 0) if shared else ("history", TypeTag.SEQUENCE)
    wanted = []
    for row in data:
        entries = row or []
        kept = entries[-limit:] if keep == "last" else entries[:limit]
        keys = [hash_key(name, value, tag) for value in kept]
        padding = [padding_key(feature)] * (limit - len(keys)) if fixed else []
        wanted.append([(key, 1.0) for key in padding + keys])
    batch = encode(table, Categorical("item"), feature)
    assert batch.values is None
    assert cells(batch, "history") == wanted
    assert cells(encode(table.slice(1), Categorical("item"), feature), "history") == wanted[1:]


def test_a_history_shares_the_items_ids() -> None:
    table = pa.table({"item": ["7"], "history": [[7, 8]]})
    history = Sequence("history", ids_of="item")
    batch = encode(table, Categorical("item"), history)
    assert batch.keys[1] == batch.keys[0]
    assert padding_key(history) not in (hash_key("item", None), hash_key("item", ""))
    assert padding_key(history) != padding_key(Sequence("other", ids_of="item"))


def test_lists_of_fixed_size() -> None:
    column = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2))
    batch = encode(pa.table({"history": column}), Sequence("history"))
    assert [len(cell) for cell in cells(batch, "history")] == [2, 0, 2]
    assert batch.keys[2] == hash_key("history", 3, TypeTag.SEQUENCE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequence("h", max_length=0), "'h': max_length must be at least 1, got 0"),
        (lambda: Sequence("h", length=0), "'h': length must be at least 1, got 0"),
        (lambda: Sequence("h", keep="frist"), "'h': keep must be last or first"),  # type: ignore[arg-type]
        (lambda: SparseContinuous("v", values="v"), "'v': values names the column"),
        (
            lambda: FeatureSpec(features=(Categorical("item"), Sequence("h", ids_of="itm"))),
            "sequence 'h': ids_of must name a categorical.*did you mean 'item'",
        ),
        (
            lambda: FeatureSpec(features=(SparseBinary("tags"), Sequence("h", ids_of="tags"))),
            "ids_of must name a categorical feature, got 'tags'",
        ),
    ],
)
def test_specs_that_cannot_be_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_fields_of_entries_are_found_by_name() -> None:
    turned = pa.struct({"value": pa.int64(), "key": pa.int64()})
    batch = encode(pa.table({"tfidf": pa.array([[(3, 7)]], pa.list_(turned))}), NUMBERS)
    assert cells(batch, "tfidf") == [[(hash_key("tfidf", 7, TypeTag.SPARSE_CONTINUOUS), 3.0)]]
    other = pa.struct({"id": pa.int64(), "weight": pa.int64()})
    with pytest.raises(DataError, match=r"are not \(key, value\)"):
        encode(pa.table({"tfidf": pa.array([[(3, 7)]], pa.list_(other))}), NUMBERS)
