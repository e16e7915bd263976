from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats import BadRow, VowpalWabbit
from weiml.errors import ConfigError, DataError

FINITE = st.floats(allow_nan=False)
WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="|:"),
    min_size=1,
    max_size=5,
)
SPACE = st.none() | st.lists(st.fixed_dictionaries({"key": WORDS, "value": FINITE}), max_size=3)
KIND = pa.list_(pa.struct({"key": pa.string(), "value": pa.float64()}))
SCHEMA = pa.schema(
    {
        "label": pa.float64(),
        "weight": pa.float64(),
        "base": pa.float64(),
        "tag": pa.string(),
        "features": KIND,
        "user": KIND,
        "é": KIND,
    }
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    numbers = draw(st.lists(FINITE, max_size=3))
    row: dict[str, Any] = dict(zip(("label", "weight", "base"), numbers, strict=False))
    row["tag"] = draw(st.none() | WORDS)
    row["features"] = draw(SPACE) or []
    return row | {name: draw(SPACE) for name in ("user", "é")}


def read(data: bytes, format: VowpalWabbit | None = None, **options: Any) -> pa.Table:
    return pa.concat_tables((format or VowpalWabbit()).read(io.BytesIO(data), **options))


def written(table: pa.Table) -> bytes:
    file = io.BytesIO()
    VowpalWabbit().write(file, [table.slice(0, 1), table.slice(1)], table.schema)
    return file.getvalue()


@given(st.lists(rows(), min_size=1, max_size=6))
def test_what_is_written_is_read_back(drawn: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(drawn, SCHEMA)
    assert read(written(table), schema=SCHEMA) == table


def entries(**values: float) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def test_the_forms_of_a_line() -> None:
    table = read(
        b"1 2 zebra|Metric:3.5 height:2 length |Says black white\n"
        b"| a b:2\n"
        b"-1 'tag |Says |Says again\n"
        b"\n"
        b"0.5 |Metric\n"
    )
    assert table.schema.names == ["label", "weight", "tag", "Metric", "Says", "features"]
    nothing = dict.fromkeys(table.schema.names) | {"features": []}
    assert table.to_pylist() == [
        nothing
        | {
            "label": 1.0,
            "weight": 2.0,
            "tag": "zebra",
            "Metric": entries(height=7.0, length=3.5),
            "Says": entries(black=1.0, white=1.0),
        },
        nothing | {"features": entries(a=1.0, b=2.0)},
        nothing | {"label": -1.0, "tag": "tag", "Says": entries(again=1.0)},
        nothing | {"label": 0.5, "Metric": []},
    ]


def test_an_example_without_features_is_a_bar() -> None:
    schema = pa.schema({"label": pa.float64(), "a": KIND})
    table = pa.Table.from_pylist([{"label": 1.0}, {"a": entries(x=1.0)}, {"a": []}], schema)
    assert written(table) == b"1 |\n|a x\n|a\n"
    assert read(written(table)).select(schema.names) == table


def test_a_base_is_a_column_where_the_first_block_has_it() -> None:
    assert read(b"1 2 0.5 |a x\n")["base"].to_pylist() == [0.5]
    assert "base" not in read(b"1 2 |a x\n").column_names


def test_bad_lines_are_set_aside_with_line_and_reason() -> None:
    lines = {
        "nothing": "no bar",
        "1 2 3 4 5 |a x": "more words",
        "1 2 3 4 'tag |a x": "more words",
        "1 |a :3": "':3' has no name",
        "1 |a city:paris": "'paris' is not a number",
        "x |a x": "'x' is not a number",
        "1 |a:x y": "'x' is not a number",
    }
    data = "5 |a x:1e-40\n" + "".join(line + "\n6 |a y\n" for line in lines)
    seen: list[BadRow] = []
    table = read(data.encode(), on_bad=seen.append)
    assert table["label"].to_pylist() == [5.0, *[6.0] * len(lines)]
    assert table["a"][0].as_py() == entries(x=1e-40)
    assert [bad.place for bad in seen] == [f"line {2 + 2 * i}" for i in range(len(lines))]
    for bad, reason in zip(seen, lines.values(), strict=True):
        assert reason in bad.reason
    with pytest.raises(DataError, match="line 2: no bar"):
        read(b"1 |a x\nnothing\n")


def test_namespaces_that_are_not_asked_for_are_passed_over_and_new_ones_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = pa.schema({"b": KIND, "label": pa.float32()})
    rows = read(b"1 |a x |b y |c z\n", schema=schema).to_pylist()
    assert rows == [{"b": entries(y=1.0), "label": 1.0}]
    monkeypatch.setattr("weiml.data.formats.lines.line_blocks.__defaults__", (8,))
    with pytest.raises(DataError, match="line 2: the namespace 'new' is none of the columns"):
        read(b"1 |a x\n1 |new x\n")


def test_names_that_clash_are_told() -> None:
    with pytest.raises(DataError, match="namespace 'label' has the name of another column"):
        read(b"1 |label x\n")
    with pytest.raises(DataError, match="default_namespace"):
        read(b"1 |features x | y\n")
    assert "d" in read(b"1 |features x | y\n", VowpalWabbit(default_namespace="d")).column_names
    with pytest.raises(ConfigError, match="default_namespace"):
        VowpalWabbit(default_namespace="tag")


def test_what_it_cannot_hold_is_told_before_anything_is_written() -> None:
    for columns, said in [
        ({"label": [1.0]}, "needs a column of features"),
        ({"a b": pa.array([[]], KIND)}, "namespace called 'a b'"),
        ({"a": [1.0]}, "needs column 'a' as list"),
        ({"tag": [1], "a": pa.array([[]], KIND)}, "column tag as string"),
    ]:
        table = pa.table(columns)
        file = io.BytesIO()
        with pytest.raises(DataError, match=said):
            VowpalWabbit().write(file, [table], table.schema)
        assert file.getvalue() == b""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": entries(**{"x y": 1.0})}, "the key 'x y' of column 'a' in row 1"),
        ({"a": [{"key": None, "value": 1.0}]}, "null entries, keys or values"),
        ({"tag": "x|y"}, "the tag 'x|y' of row 1"),
        ({"weight": 2.0}, "weight without what stands before it"),
        ({"features": None}, "null of column 'features'"),
        ({"label": float("nan")}, "NaN in column 'label'"),
    ],
)
def test_values_it_cannot_hold_are_told(row: dict[str, Any], said: str) -> None:
    schema = pa.schema(
        {
            "label": pa.float64(),
            "weight": pa.float64(),
            "tag": pa.string(),
            "a": KIND,
            "features": KIND,
        }
    )
    rows = [{"label": 1.0, "features": []}, {"features": []} | row]
    with pytest.raises(DataError, match=said):
        written(pa.Table.from_pylist(rows, schema))


def test_vowpal_wabbit_reads_what_is_written() -> None:
    vw = pytest.importorskip("vowpalwabbit")
    rows = [
        {"label": 1.0, "weight": 2.0, "tag": "x", "a": entries(u=1.0), "features": entries(v=1.5)},
        {"tag": "t", "features": []},
        {"label": -1.0, "features": [], "a": entries(u=-2.0, w=1.0)},
    ]
    schema = pa.schema([SCHEMA.field(name) for name in ("label", "weight", "tag", "features")])
    table = pa.Table.from_pylist(rows, schema.append(pa.field("a", KIND)))
    workspace = vw.Workspace("--quiet --noconstant")
    examples = [workspace.example(line) for line in written(table).decode().splitlines()]
    seen = [
        (
            example.get_tag(),
            example.get_simplelabel_weight(),
            [
                example.feature_weight(space, i)
                for space in range(example.num_namespaces())
                for i in range(example.num_features_in(space))
            ],
        )
        for example in examples
    ]
    labels = [examples[i].get_simplelabel_label() for i in (0, 2)]
    workspace.finish()
    assert seen == [("x", 2.0, [1.5, 1.0]), ("t", 1.0, []), ("", 1.0, [-2.0, 1.0])]
    assert labels == [1.0, -1.0]
