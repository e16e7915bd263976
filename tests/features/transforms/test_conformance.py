"""What every registered transform keeps to: merging, files, schemas, rows, layouts, errors."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import (
    CDF,
    MDL,
    TRANSFORMS,
    Accumulator,
    AdaBoostLeaves,
    Chain,
    CharNGrams,
    Clip,
    EqualWidth,
    Fill,
    Fitted,
    GBDTLeaves,
    GeoCell,
    Hashing,
    ListPool,
    Log1p,
    MaxNorm,
    MinMax,
    MissingIndicator,
    Powers,
    QuantileBuckets,
    RandomForestLeaves,
    SignedLog,
    Sqrt,
    Square,
    Standard,
    TargetMean,
    TimeParts,
    Together,
    Tokens,
    Transform,
    Vocabulary,
    fit_tables,
    fitted_from_mapping,
    load_fitted,
    transform_from_mapping,
)
from weiml.features.transforms.time_parts import Part

WORDS = ["red", "green", "blue", "Größe", "東京", "", "a b", "-1"]
TITLES = [
    "Red shoes, 42",
    "手机壳 iPhone15",
    "",
    "ÉTÉ à Paris",
    "x",
    "北京 hotel 东",
    "Ｆｕｌｌ　ｗｉｄｔｈ",
]


def some(values: np.ndarray, rng: np.random.Generator, share: float = 0.1) -> list[Any]:
    """Return values as a list, some of them None."""
    gone = rng.random(len(values)) < share
    return [None if g else v for g, v in zip(gone, values.tolist(), strict=True)]


def examples(n: int, seed: int = 3) -> pa.Table:
    """Return a table with a column of each kind, missing values of all kinds among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(10.0, 3.0, n)
    x[rng.random(n) < 0.05] = np.nan
    x[rng.random(n) < 0.03] = np.inf
    x[rng.random(n) < 0.03] = -np.inf
    x[rng.random(n) < 0.03] = -0.0
    lists = [
        None if rng.random() < 0.1 else [WORDS[w] for w in rng.integers(0, 8, rng.integers(0, 4))]
        for _ in range(n)
    ]
    numbers = [
        None if rng.random() < 0.1 else some(rng.normal(size=rng.integers(0, 5)), rng)
        for _ in range(n)
    ]
    seconds = rng.integers(-(10**9), 3 * 10**9, n)
    return pa.table(
        {
            "x": pa.array(some(x, rng), pa.float64()),
            "y": pa.array(some(rng.lognormal(0, 2, n), rng), pa.float64()),
            "count": pa.array(some(rng.poisson(2.0, n), rng), pa.int64()),
            "city": pa.array(some(np.array(WORDS)[rng.integers(0, 8, n)], rng), pa.string()),
            "title": pa.array(some(np.array(TITLES)[rng.integers(0, 7, n)], rng), pa.string()),
            "tags": pa.array(lists, pa.list_(pa.string())),
            "history": pa.array(numbers, pa.list_(pa.float64())),
            "lat": pa.array(some(rng.uniform(-95, 95, n), rng), pa.float64()),
            "lon": pa.array(some(rng.uniform(-190, 190, n), rng), pa.float64()),
            "time": pa.array(some(seconds, rng), pa.int64()),
            "stamp": pa.array(some(seconds, rng), pa.int64()).cast(pa.timestamp("s")),
            "user": pa.array([f"u{u}" for u in rng.integers(0, 30, n)], pa.string()),
            "label": pa.array((rng.random(n) < 0.3).astype(np.int64)),
        }
    )


STRINGS, LISTS = pa.string(), pa.list_(pa.float64())


@dataclass
class Case:
    """A transform of the table above, and types that its inputs cannot have."""

    transform: Transform
    wrong: dict[str, pa.DataType] = field(default_factory=dict)
    casts: dict[str, Sequence[pa.DataType]] = field(default_factory=dict)
    """Other types that columns may have, with any values."""


NUMBERS = (pa.int32(), pa.float32(), pa.bool_(), pa.uint8(), pa.null(), pa.float16())


def number_case(transform: Transform, column: str = "x") -> Case:
    return Case(transform, {column: STRINGS}, {column: NUMBERS})


def category_case(transform: Transform) -> Case:
    (name,) = transform.inputs
    return Case(transform, {name: pa.float64()}, {})


PARTS: tuple[Part, ...] = (
    "hour",
    "weekday",
    "day",
    "month",
    "hour_of_week",
    "is_weekend",
    "hour_cycle",
    "weekday_cycle",
    "month_cycle",
    "hour_of_week_cycle",
)
CASES = {
    "min_max": number_case(MinMax("x")),
    "min_max clipped": number_case(MinMax("x", output="x01", clip=True)),
    "standard": number_case(Standard("x")),
    "max_norm": number_case(MaxNorm("x", output="y")),
    "cdf": number_case(CDF("x", knots=20)),
    "log1p": number_case(Log1p("x")),
    "signed_log": number_case(SignedLog("x", output="new")),
    "clip": number_case(Clip("x", low=0.0, high=12.0)),
    "square": number_case(Square("x")),
    "sqrt": number_case(Sqrt("x")),
    "powers": number_case(Powers("x")),
    "missing_indicator": Case(MissingIndicator("x"), {}, {"x": (*NUMBERS, pa.string(), LISTS)}),
    "fill": number_case(Fill("x")),
    "fill median": number_case(Fill("x", by="median")),
    "fill constant": number_case(Fill("x", by="constant", value=-1.0)),
    "chain": number_case(
        Chain(
            MissingIndicator("x"),
            Fill("x", by="median"),
            SignedLog("x"),
            Standard("x", output="z"),
            CDF("z", knots=9),
            Powers("z"),
        )
    ),
    "together": number_case(Together(MinMax("x"), CDF("x", output="share"), Log1p("y"))),
    "equal_width": number_case(EqualWidth("x", buckets=7)),
    "quantile": number_case(QuantileBuckets("x", output="bucket", buckets=7)),
    "mdl": number_case(MDL("x")),
    "gbdt_leaves": number_case(GBDTLeaves(("x", "y"), trees=5)),
    "ada_boost_leaves": number_case(AdaBoostLeaves(("x", "y"), trees=5, label="city", depth=2)),
    "random_forest_leaves": number_case(
        RandomForestLeaves(("x", "count"), trees=5, examples=50, output="f")
    ),
    "hashing": category_case(Hashing("city", bits=9)),
    "hashing of integers": Case(Hashing("count", output="id"), {"count": pa.float64()}),
    "hashing of lists": category_case(Hashing("tags")),
    "vocabulary": category_case(Vocabulary("city", min_count=2, max_size=5, oov=3)),
    "vocabulary of lists": category_case(Vocabulary("tags", output="numbers")),
    "vocabulary of tokens": Case(
        Chain(Tokens("title", output="words", ngrams=2), Vocabulary("words"))
    ),
    "tokens": Case(Tokens("title"), {"title": pa.int64()}, {"title": (pa.null(),)}),
    "char_ngrams": Case(CharNGrams("title", output="grams"), {"title": LISTS}),
    "geo_cell": Case(
        GeoCell("lat", "lon", level=9), {"lat": STRINGS, "lon": LISTS}, {"lat": NUMBERS}
    ),
    "time_parts": Case(
        TimeParts("time", parts=PARTS, timezone="America/New_York"),
        {"time": pa.float64()},
        {"time": (pa.int32(), pa.uint64(), pa.null())},
    ),
    "time_parts of stamps": Case(TimeParts("stamp", output="at"), {"stamp": STRINGS}),
    "list_pool": Case(ListPool("history"), {"history": pa.float64()}),
    "list_pool last": Case(ListPool("history", by="last", output="last")),
    "target_mean": Case(
        TargetMean(("city",), fold_by="user", with_count=True), {"city": pa.float64()}
    ),
    "target_mean of a cross": Case(
        TargetMean(("city", "count"), label="x", output="m"), {"count": LISTS}
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
learning = pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.transform.learns],
    ids=[name for name, case in CASES.items() if case.transform.learns],
)
TABLE = examples(300)


def cut(table: pa.Table, places: Sequence[int]) -> list[pa.Table]:
    ends = [0, *sorted(places), table.num_rows]
    return [table.slice(a, b - a) for a, b in itertools.pairwise(ends)]


def merge(left: Accumulator, right: Accumulator) -> Accumulator:
    left.merge(right)
    return left


def from_left(parts: list[Accumulator]) -> Accumulator:
    return reduce(merge, parts)


def as_tree(parts: list[Accumulator]) -> Accumulator:
    if len(parts) == 1:
        return parts[0]
    middle = (len(parts) + 1) // 2
    return merge(as_tree(parts[:middle]), as_tree(parts[middle:]))


def backwards(parts: list[Accumulator]) -> Accumulator:
    return reduce(merge, parts[::-1])


def fit_parts(
    transform: Transform,
    parts: list[pa.Table],
    gather: Callable[[list[Accumulator]], Accumulator],
) -> Fitted:
    """Fit as workers do: each adds its tables to a copy of the accumulator, sent as bytes."""
    empty: Accumulator | None = transform.accumulator()
    while empty is not None:
        seen = []
        for part in parts:
            mine: Accumulator = pickle.loads(pickle.dumps(empty))
            mine.add(part)
            seen.append(pickle.loads(pickle.dumps(mine)))
        last = gather(seen)
        empty = last.then()
    return last.fitted()


def copied(table: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.open_stream(sink.getvalue()) as reader:
        return reader.read_all()


def bits(column: pa.ChunkedArray) -> pa.Array:
    """Return a column so that NaN equals NaN, and 0 does not equal −0."""
    array = pa.concat_arrays(column.chunks)
    return array.view(pa.int64()) if pa.types.is_float64(array.type) else array


def same(left: pa.Table, right: pa.Table) -> None:
    assert left.schema == right.schema
    for name in left.schema.names:
        assert bits(left.column(name)).equals(bits(right.column(name))), name


def test_every_registered_transform_is_here() -> None:
    assert {case.transform.name for case in CASES.values()} == set(TRANSFORMS)


@every
@pytest.mark.parametrize("gather", [from_left, as_tree, backwards])
@pytest.mark.parametrize("places", [[150], [0, 0, 1, 70, 300], [40, 80, 120, 160, 200, 240]])
def test_fitting_parts_is_fitting_all(
    case: Case, gather: Callable[[list[Accumulator]], Accumulator], places: list[int]
) -> None:
    whole = case.transform.fit(TABLE)
    assert fit_parts(case.transform, cut(TABLE, places), gather) == whole


@every
def test_tables_are_read_once_a_pass(case: Case) -> None:
    reads = []

    def tables() -> list[pa.Table]:
        reads.append(1)
        return cut(TABLE, [100, 200])

    assert fit_tables(case.transform, tables) == case.transform.fit(TABLE)
    assert len(reads) == 0 if not case.transform.learns else len(reads) >= 1


@every
def test_a_file_gives_back_what_was_saved(case: Case, tmp_path: Path) -> None:
    fitted = case.transform.fit(TABLE)
    path = tmp_path / "fitted.json"
    fitted.save(path)
    again = load_fitted(path)
    assert again == fitted
    assert again.transform == case.transform
    same(again.apply(TABLE), fitted.apply(TABLE))
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "fitted.json"]


@every
def test_a_file_that_cannot_be_written_leaves_the_old_one(case: Case, tmp_path: Path) -> None:
    fitted = case.transform.fit(TABLE)
    path = tmp_path / "fitted.json"
    fitted.save(path)
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        fitted.save(tmp_path / "no folder" / "fitted.json")
    assert path.read_bytes() == before


@every
def test_a_damaged_file_is_an_error(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "fitted.json"
    case.transform.fit(TABLE).save(path)
    whole = path.read_text()
    tree = json.loads(whole)
    del tree["state"]
    wrong_type = json.loads(whole)
    wrong_type["transform"]["type"] = "min_mx"
    damaged = [
        whole[: len(whole) // 2],
        "[]",
        json.dumps(tree),
        json.dumps(wrong_type),
        json.dumps({**tree, "format": 99}),
    ]
    for text in damaged:
        path.write_text(text)
        with pytest.raises(DataError):
            load_fitted(path)


@every
def test_configuration_round_trip(case: Case) -> None:
    mapping = case.transform.to_mapping()
    assert transform_from_mapping(json.loads(json.dumps(mapping))) == case.transform
    with pytest.raises(ConfigError):
        transform_from_mapping({**mapping, "colunm": "x"})


@every
def test_pickles(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    assert pickle.loads(pickle.dumps(case.transform)) == case.transform
    again = pickle.loads(pickle.dumps(fitted))
    assert again == fitted
    same(again.apply(TABLE), fitted.apply(TABLE))


@every
def test_the_schema_is_known_before_any_data(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    schema = case.transform.output_schema(TABLE.schema)
    assert fitted.apply(TABLE).schema == schema
    assert fitted.apply(TABLE.slice(0, 0)).schema == schema
    assert fitted.apply(TABLE.schema.empty_table()).schema == schema
    assert fitted.apply(TABLE).num_rows == TABLE.num_rows
    untouched = set(TABLE.schema.names) - set(case.transform.outputs)
    assert [n for n in schema.names if n in untouched] == [
        n for n in TABLE.schema.names if n in untouched
    ]
    assert set(schema.names) == untouched | set(case.transform.outputs)
    same(fitted.apply(TABLE).select(sorted(untouched)), TABLE.select(sorted(untouched)))


@every
def test_only_the_inputs_are_needed(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    narrow = fitted.apply(TABLE.select(case.transform.inputs))
    outputs = list(case.transform.outputs)
    same(narrow.select(outputs), fitted.apply(TABLE).select(outputs))


@every
def test_rows_do_not_know_each_other(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    whole = fitted.apply(TABLE)
    same(pa.concat_tables([fitted.apply(part) for part in cut(TABLE, [1, 90, 91])]), whole)
    for i in range(60):
        same(fitted.apply(TABLE.slice(i, 1)), whole.slice(i, 1))


@every
def test_other_data_than_that_of_training(case: Case) -> None:
    fitted = case.transform.fit(TABLE.slice(0, 20))
    assert fitted.apply(TABLE).schema == case.transform.output_schema(TABLE.schema)


@every
def test_the_input_stays_as_it_is(case: Case) -> None:
    table = copied(TABLE)
    case.transform.fit(table).apply(table)
    same(table, TABLE)


@every
def test_layouts_do_not_count(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    whole = fitted.apply(TABLE)
    outputs = list(case.transform.outputs)
    padded = pa.concat_tables([TABLE.slice(5, 9), TABLE, TABLE.slice(0, 7)]).combine_chunks()
    layouts = [
        pa.concat_tables([copied(part) for part in cut(TABLE, [0, 30, 30, 200])]),
        padded.slice(9, TABLE.num_rows),
    ]
    encoded = TABLE
    for i, column in enumerate(TABLE.schema):
        if not pa.types.is_list(column.type):
            encoded = encoded.set_column(i, column.name, TABLE.column(i).dictionary_encode())
    layouts.append(encoded)
    large = TABLE
    for i, column in enumerate(TABLE.schema):
        if pa.types.is_string(column.type):
            large = large.set_column(i, column.name, TABLE.column(i).cast(pa.large_string()))
        elif pa.types.is_list(column.type):
            kind = pa.large_list(column.type.value_type)
            large = large.set_column(i, column.name, TABLE.column(i).cast(kind))
    layouts.append(large)
    for layout in layouts:
        assert case.transform.fit(layout) == fitted
        made = fitted.apply(layout)
        assert made.schema == case.transform.output_schema(layout.schema)
        same(made.select(outputs), whole.select(outputs))


@every
def test_other_types_of_the_inputs(case: Case) -> None:
    for name, kinds in case.casts.items():
        for kind in kinds:
            at = TABLE.schema.get_field_index(name)
            values = [isinstance(v, float) and v > 11 for v in TABLE[name].to_pylist()]
            if pa.types.is_null(kind):
                array = pa.nulls(len(values))
            elif pa.types.is_list(kind):
                array = pa.array([[1.0] if v else None for v in values], kind)
            else:
                array = pa.array(np.asarray(values)).cast(pa.int8()).cast(kind)
            table = TABLE.set_column(at, name, array)
            fitted = case.transform.fit(table)
            made = fitted.apply(table)
            assert made.schema == case.transform.output_schema(table.schema), kind
            assert fitted.apply(table.slice(0, 0)).schema == made.schema


@every
def test_threads_apply_at_once(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    whole = fitted.apply(TABLE)
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(fitted.apply, [TABLE] * 8):
            same(made, whole)


@every
def test_a_missing_column_is_told_with_the_nearest_name(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    for name in case.transform.inputs:
        renamed = TABLE.rename_columns([n + "_" if n == name else n for n in TABLE.schema.names])
        nearest = f"column '{name}' is missing; did you mean"
        for call in (
            lambda table: case.transform.output_schema(table.schema),
            fitted.apply,
            case.transform.accumulator().add,
        ):
            with pytest.raises(DataError, match=nearest):
                call(renamed)


@every
def test_a_column_that_stands_twice_is_told(case: Case) -> None:
    for name in case.transform.inputs:
        twice = TABLE.append_column(name, TABLE.column(name))
        with pytest.raises(DataError, match="stands 2 times"):
            case.transform.output_schema(twice.schema)


@every
def test_a_wrong_type_is_told_before_any_data(case: Case) -> None:
    fitted = case.transform.fit(TABLE)
    for name, kind in case.wrong.items():
        at = TABLE.schema.get_field_index(name)
        schema = TABLE.schema.set(at, pa.field(name, kind))
        with pytest.raises(DataError, match=f"column '{name}'"):
            case.transform.output_schema(schema)
        with pytest.raises(DataError, match=f"column '{name}'"):
            fitted.apply(schema.empty_table())
        with pytest.raises(DataError, match=f"column '{name}'"):
            case.transform.accumulator().add(schema.empty_table())


@learning
def test_no_rows_at_all_are_an_error(case: Case) -> None:
    with pytest.raises(DataError, match="no rows"):
        case.transform.fit(TABLE.slice(0, 0))


@every
def test_all_values_missing_are_none(case: Case) -> None:
    trained_on = TABLE
    for name in case.transform.inputs:
        at = TABLE.schema.get_field_index(name)
        kind = TABLE.schema.field(name).type
        trained_on = trained_on.set_column(at, name, pa.nulls(TABLE.num_rows, kind))
    fitted = case.transform.fit(trained_on)
    assert fitted.apply(TABLE).schema == case.transform.output_schema(TABLE.schema)
    assert fitted_from_mapping(json.loads(json.dumps(fitted.to_mapping()))) == fitted


@learning
def test_accumulators_of_different_transforms_do_not_merge(case: Case) -> None:
    other = MinMax("other") if case.transform != MinMax("other") else MinMax("x")
    mine = case.transform.accumulator()
    if type(mine) is type(other.accumulator()):
        with pytest.raises(DataError, match="different transforms"):
            mine.merge(other.accumulator())
