"""CSV read directly gives the batches of Python's csv module and the encoder, whatever the text."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from weiml.data import BatchSource, ClickGenerator, ClicksConfig, CsvExamples
from weiml.data.batches.csv.blocks import open_csv
from weiml.data.batches.csv.utf8 import all_utf8, is_utf8
from weiml.data.datasets.clicks import CATEGORIES, NUMBERS
from weiml.data.formats import BadRow
from weiml.errors import ConfigError, DataError
from weiml.features import (
    Batch,
    Binary,
    Categorical,
    Continuous,
    Cross,
    FeatureEncoder,
    FeatureSpec,
    SparseBinary,
    Text,
)
from weiml.features.transforms import Log1p
from weiml.ps.rows.memory import address_of

SPEC = FeatureSpec(
    features=(
        Categorical("user_id"),
        Categorical("city"),
        Continuous("age", buckets=3),
        Continuous("price"),
        Binary("member"),
        SparseBinary("genres"),
        Text("title", max_tokens=3),
    ),
    crosses=(Cross("city_genre", of=("city", "genres")),),
)
COLUMNS = (
    "label",
    "user_id",
    "unused",
    "city",
    "age",
    "price",
    "member",
    "genres",
    "title",
    "timestamp",
    "item_id",
)
FLAGS = {"0": False, "1": True, "true": True, "false": False, "True": True, "FALSE": False}
ENCODER = FeatureEncoder(SPEC).fit(
    pa.table({"age": [1.0, 2.0, 4.0, 8.0, 16.0], "price": [0.0, 1.0, 1.0, 2.0, 9.0]})
)


def table_of(rows: Sequence[Sequence[str]]) -> pa.Table:
    """Return the same columns as a table, by plain Python."""
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))

    def texts(name: str) -> list[str | None]:
        return [text or None for text in columns[name]]

    def numbers(name: str) -> list[float | None]:
        return [float(text) if text else None for text in columns[name]]

    lists = [text.split("|") if text else None for text in texts("genres")]
    return pa.table(
        {
            "label": pa.array(numbers("label"), pa.float64()),
            "user_id": pa.array(texts("user_id"), pa.string()),
            "city": pa.array(texts("city"), pa.string()),
            "age": pa.array(numbers("age"), pa.float64()),
            "price": pa.array(numbers("price"), pa.float64()),
            "member": pa.array([FLAGS.get(t) for t in columns["member"]], pa.bool_()),
            "genres": pa.array(lists, pa.list_(pa.string())),
            "title": pa.array(texts("title"), pa.string()),
            "timestamp": pa.array([int(t) for t in columns["timestamp"]], pa.int64()),
            "item_id": pa.array(texts("item_id"), pa.string()),
        }
    )


def assert_same(got: Batch, expected: Batch) -> None:
    got.validate()
    for name in ("labels", "weights", "dense", "keys", "offsets", "groups", "items", "times"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)
    assert (got.slots, got.dense_names) == (expected.slots, expected.dense_names)


def read(path: Path, **given: Any) -> Batch:
    return Batch.concat(list(CsvExamples(path, ENCODER, **given).iter_batches(7)))


text_of = st.text(st.sampled_from('ab,\t"\n\r |x0é€😀'), max_size=9) | st.text(max_size=40)
number_of = (
    st.just("")
    | st.integers(-(10**18), 10**18).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.floats(-1e6, 1e6).map(lambda x: f"{x:.3e}")
    | st.sampled_from(["-0", "+1", ".5", "5.", "1E3", " 7", "nan", "00000000000000000000001"])
)
row_of = st.tuples(
    st.sampled_from(["0", "1", "0.25", "1e0"]),
    text_of,
    text_of,
    text_of,
    number_of,
    number_of,
    st.sampled_from(["", *FLAGS]),
    text_of,
    text_of,
    st.integers(-(10**10), 10**10).map(str),
    st.just("") | st.integers(0, 10**12).map(str),
)


@settings(max_examples=150)
@given(
    rows=st.lists(row_of, min_size=1, max_size=12),
    delimiter=st.sampled_from(",\t;"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    block_bytes=st.integers(64, 700),
    layout=st.sampled_from(["", "unfinished", "blank lines", "byte order mark", "no header"]),
)
def test_batches_are_those_of_the_table(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    delimiter: str,
    end: str,
    quoting: Any,
    block_bytes: int,
    layout: str,
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    head = [] if layout == "no header" else [COLUMNS]
    for row in [*head, *rows]:
        writer.writerow(row)
        out.write(end if layout == "blank lines" else "")
    text = out.getvalue().removesuffix(end if layout == "unfinished" else "")
    understood = list(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))
    # The standard writer leaves line ends other than its own without quotes.
    assume(understood[-len(rows) :] == [list(row) for row in rows])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes((b"\xef\xbb\xbf" if layout == "byte order mark" else b"") + text.encode())
    columns = None if head else COLUMNS
    source = CsvExamples(
        path, ENCODER, delimiter=delimiter, block_bytes=block_bytes, columns=columns
    )
    expected = ENCODER.encode(table_of(rows))
    assert_same(Batch.concat(list(source.iter_batches(5))), expected)
    assert source.num_examples == len(rows)
    share = len(rows) // 3
    for worker in range(3):
        batches = list(source.iter_batches(4, worker=worker, num_workers=3))
        assert sum(map(len, batches)) == share
        if share:
            part = expected.slice(worker * share, (worker + 1) * share)
            assert_same(Batch.concat(batches), part)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_larger_file_equals_arrow(tmp_path: Path, threads: int) -> None:
    table = ClickGenerator(ClicksConfig(rows=5_000)).examples(0, 5_000)
    pyarrow.csv.write_csv(table, tmp_path / "clicks.csv")
    features = [Continuous(n, buckets=5) for n in NUMBERS] + [Categorical(c) for c in CATEGORIES]
    encoder = FeatureEncoder(FeatureSpec(features=tuple(features))).fit(table)
    source = CsvExamples(tmp_path / "clicks.csv", encoder, threads=threads, block_bytes=30_000)
    batches = list(source.iter_batches(512))
    assert {len(batch) for batch in batches[:-1]} == {512}
    assert_same(Batch.concat(batches), encoder.encode(table))
    assert isinstance(source, BatchSource)
    again = next(pickle.loads(pickle.dumps(source)).iter_batches(9))
    assert_same(again, batches[0].slice(0, 9))


@pytest.fixture
def rows() -> list[list[str]]:
    return [
        [*f"1 u{i} - {'x,y' if i % 5 == 0 else 'z'} {i} {i / 8} 1 a|b".split(), "T w", "7", "3"]
        for i in range(40)
    ]


def write(path: Path, rows: Sequence[Sequence[str]], head: Sequence[str] = COLUMNS) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([head, *rows] if head else rows)
    path.write_bytes(out.getvalue().encode())
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_packed_files_are_unpacked(tmp_path: Path, rows: list[list[str]], suffix: str) -> None:
    plain = write(tmp_path / "plain.csv", rows)
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
    }
    path = tmp_path / f"rows.csv{suffix}"
    # Two streams one after the other, as several writers leave them.
    path.write_bytes(packers[suffix](plain[:700]) + packers[suffix](plain[700:]))
    assert_same(read(path, block_bytes=256), ENCODER.encode(table_of(rows)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="rows.csv"):
        read(path)


def test_several_files_each_with_its_own_order_of_columns(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    write(tmp_path / "0.csv", rows[:13])
    write(tmp_path / "1.csv", [])
    write(tmp_path / "2.csv", [row[::-1] for row in rows[13:]], COLUMNS[::-1])
    paths = [tmp_path / f"{i}.csv" for i in range(3)]
    source = CsvExamples(paths, ENCODER, block_bytes=200)
    expected = ENCODER.encode(table_of(rows))
    assert_same(Batch.concat(list(source.iter_batches(6))), expected)
    parts = [b for w in range(4) for b in source.iter_batches(100, worker=w, num_workers=4)]
    assert_same(Batch.concat(parts), expected)
    assert str(source) == f"{paths[0]} and 2 more"


def test_files_of_any_file_system(rows: list[list[str]], tmp_path: Path) -> None:
    with fsspec.open("memory://clicks/rows.csv", "wb") as file:
        file.write(write(tmp_path / "plain.csv", rows))
    source = CsvExamples("memory://clicks/rows.csv", ENCODER)
    assert_same(next(source.iter_batches(100)), ENCODER.encode(table_of(rows)))


BAD = [
    ("1,u,,x\n", "it has 4 fields, but there are 11 columns"),
    ("1,u,,x,1,1,1,a,t,7,3,\n", "it has 12 fields"),
    (",u,,x,1,1,1,a,t,7,3\n", "column 'label' is empty"),
    ("nan,u,,x,1,1,1,a,t,7,3\n", "column 'label': b'nan' is not a number"),
    ("1,u,,x,12a,1,1,a,t,7,3\n", "column 'age': b'12a' is not a number"),
    ("1,u,,x,1,1_0,1,a,t,7,3\n", "column 'price': b'1_0' is not a number"),
    ("1,u,,x,1,1,yes,a,t,7,3\n", "column 'member': b'yes' is not 0, 1, true or false"),
    ("1,u,,x,1,1,1,a,t,7.5,3\n", "column 'timestamp': b'7.5' is not a whole number of seconds"),
    ("1,u,,x,1,1,1,a,t,,3\n", "column 'timestamp' is empty"),
    ('1,u,,"x\ny",1,1,1,a,t,7\n', "it has 10 fields"),
]


@pytest.mark.parametrize("at", [0, 20, 40])
@pytest.mark.parametrize(("raw", "reason"), BAD)
def test_a_bad_row_is_an_error_or_left_out(
    tmp_path: Path, rows: list[list[str]], at: int, raw: str, reason: str
) -> None:
    path = tmp_path / "rows.csv"
    lines = write(path, rows).decode().splitlines(keepends=True)
    path.write_text("".join([*lines[: at + 1], raw, *lines[at + 1 :]]))
    with pytest.raises(DataError, match=f"rows.csv, line {at + 2}: ") as caught:
        read(path, block_bytes=300)
    assert reason in str(caught.value)
    for threads in (1, 2):
        seen: list[BadRow] = []
        batch = read(path, block_bytes=300, threads=threads, on_bad=seen.append)
        assert_same(batch, ENCODER.encode(table_of(rows)))
        assert [row.place for row in seen] == [f"{path}, line {at + 2}"]
        assert seen[0].raw.decode() == raw.removesuffix("\n")
        assert reason in seen[0].reason
    source = CsvExamples(path, ENCODER, block_bytes=300, on_bad=seen.append)
    assert source.num_examples == 41
    halves = [sum(map(len, source.iter_batches(9, worker=w, num_workers=2))) for w in range(2)]
    assert halves == [20 - (at < 20), 20 - (at == 20)] if at < 40 else [20, 20]


def test_bad_rows_come_in_order_with_their_lines(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "rows.csv"
    rows[3][3] = "two\nlines"
    good = [row for i, row in enumerate(rows) if i not in (10, 11, 12, 30)]
    expected = ENCODER.encode(table_of(good))
    rows[10][4] = "ten"
    rows[11] = rows[11][:5]
    rows[12][5] = "twelve"
    rows[30].append("more")
    write(path, rows)
    seen: list[BadRow] = []
    assert_same(read(path, on_bad=seen.append, block_bytes=400), expected)
    assert [row.place for row in seen] == [f"{path}, line {n}" for n in (13, 14, 15, 33)]


def test_rare_numbers_of_a_bad_row_do_not_reach_the_next(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    path = tmp_path / "rows.csv"
    bad = ["1", "u", "", "x", " 77 "]  # the number is read by hand, and the row is too short
    write(path, [*rows[:7], bad, *rows[7:]])
    seen: list[BadRow] = []
    assert_same(read(path, on_bad=seen.append), ENCODER.encode(table_of(rows)))
    assert len(seen) == 1


def test_a_quote_that_is_never_closed(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "rows.csv"
    open_row = b'1,"u,,x,1,1,1,a,t,7,3\n1,u,,x,1,1,1,a,t,7,3\n'
    path.write_bytes(write(path, rows) + open_row)
    with pytest.raises(DataError, match="line 42: column 'user_id': its quote is never closed"):
        read(path, block_bytes=100)
    seen: list[BadRow] = []
    assert_same(read(path, on_bad=seen.append), ENCODER.encode(table_of(rows)))
    assert [row.raw for row in seen] == [open_row.removesuffix(b"\n")]


def test_a_row_as_long_as_no_row_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weiml.data.batches.csv.blocks.LONGEST_ROW", 1 << 12)
    path = tmp_path / "rows.csv"
    path.write_text(",".join(COLUMNS) + '\n1,"' + "x" * 10_000)
    with pytest.raises(DataError, match="line 2: a row of more than .* never closed"):
        read(path, block_bytes=100, on_bad=lambda _: None)


def test_what_on_bad_raises_ends_the_reading(tmp_path: Path, rows: list[list[str]]) -> None:
    write(tmp_path / "rows.csv", [*rows[:5], rows[5][:3], *rows[6:]])

    def refuse(row: BadRow) -> None:
        raise KeyError(row.place)

    with pytest.raises(KeyError, match="line 7"):
        read(tmp_path / "rows.csv", on_bad=refuse)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (",".join(COLUMNS).replace("city", "ctiy"), "'city' is missing; did you mean 'ctiy'"),
        (",".join(COLUMNS).replace("unused", "city"), "different names"),
        ("\n\n", "is empty"),
        ("caf\udce9,b", "line 1: the header is no UTF-8"),
    ],
)
def test_headers_that_do_not_fit(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(DataError, match=error):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file .*none.csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read: .*directory"):
        read(tmp_path)
    for path in (f"memory://{tmp_path}/none.csv", f"file://{tmp_path}/none.csv"):
        with pytest.raises(DataError, match="no file .*none.csv"):
            list(CsvExamples(path, ENCODER).iter_batches(1))
    with pytest.raises(ConfigError, match="nosuch://x cannot be opened: .*fsspec"):
        list(CsvExamples("nosuch://x", ENCODER).iter_batches(1))


class _Locked(MemoryFileSystem):
    """Opens files to those who know the word, as object stores do."""

    protocol = "locked"
    cachable = False

    def __init__(self, word: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.word = word

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("locked:/")))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if self.word != "sesame":
            raise PermissionError(f"{path} is locked")
        return super()._open(path, mode, **options)


def test_options_of_the_file_system(rows: list[list[str]], tmp_path: Path) -> None:
    fsspec.register_implementation("locked", _Locked, clobber=True)
    fsspec.filesystem("memory").pipe_file("/clicks/more.csv", write(tmp_path / "x.csv", rows))
    path = "locked://clicks/more.csv"
    source = pickle.loads(pickle.dumps(CsvExamples(path, ENCODER, storage={"word": "sesame"})))
    assert source.num_examples == 40
    assert_same(next(source.iter_batches(100)), ENCODER.encode(table_of(rows)))
    with pytest.raises(DataError, match="more.csv cannot be read: .*is locked"):
        list(CsvExamples(path, ENCODER).iter_batches(1))


def test_a_worker_opens_only_files_in_which_its_rows_stand(
    tmp_path: Path, rows: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{i}.csv" for i in range(4)]
    for i, path in enumerate(paths):
        write(path, rows[i * 10 : i * 10 + 10] if i != 2 else [])
    source = CsvExamples(paths, ENCODER)
    assert source.num_examples == 30
    opened: list[str] = []

    def noted(path: str, **given: Any) -> Any:
        opened.append(Path(path).name)
        return open_csv(path, **given)

    monkeypatch.setattr("weiml.data.batches.csv.source.open_csv", noted)
    got = [list(source.iter_batches(7, worker=w, num_workers=2)) for w in range(2)]
    assert opened == ["0.csv", "1.csv", "1.csv", "3.csv"]
    expected = ENCODER.encode(table_of([*rows[:20], *rows[30:]]))
    assert_same(Batch.concat([*got[0], *got[1]]), expected)


def test_a_file_without_rows_and_without_labels(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "rows.csv"
    write(path, [])
    assert list(CsvExamples(path, ENCODER).iter_batches(3)) == []
    write(path, [row[1:] for row in rows], head=())
    batch = read(path, columns=COLUMNS[1:], labels=False)
    assert_same(batch, ENCODER.encode(table_of(rows), labels=False))


GARBLED = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82"]


@pytest.mark.parametrize("column", ["user_id", "city", "genres", "title", "item_id"])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_row_of_invalid_text_is_bad(
    tmp_path: Path, rows: list[list[str]], column: str, quoted: bool
) -> None:
    """In categories too: two bytes that are no text would otherwise be two keys like others."""
    path = tmp_path / "rows.csv"
    lines = write(path, rows).splitlines(keepends=True)
    fields = b"1,u\xc3\xa9,,x,1,1,1,a|b,t,7,3".split(b",")  # what is valid beside it stays valid
    at = COLUMNS.index(column)
    raw = []
    for garbled in GARBLED:
        field = b'"a,' + garbled + b'""b"' if quoted else b"a" + garbled
        raw.append(b",".join([*fields[:at], field, *fields[at + 1 :]]) + b"\n")
    path.write_bytes(b"".join([*lines[:11], *raw, *lines[11:]]))
    with pytest.raises(DataError, match=f"rows.csv, line 12: column '{column}' is not UTF-8"):
        read(path)
    seen: list[BadRow] = []
    assert_same(read(path, on_bad=seen.append, block_bytes=300), ENCODER.encode(table_of(rows)))
    assert [row.place for row in seen] == [f"{path}, line {12 + i}" for i in range(len(GARBLED))]
    assert [row.raw + b"\n" for row in seen] == raw
    assert {row.reason for row in seen} == {f"column '{column}' is not UTF-8"}


def test_invalid_text_in_columns_that_are_skipped_is_nobodys(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(write(path, rows).replace(b",-,", b",\xff,"))
    assert_same(read(path), ENCODER.encode(table_of(rows)))


@given(st.binary(max_size=12) | st.text(max_size=5).map(str.encode))
@settings(max_examples=500)
def test_utf8_is_what_python_decodes(data: bytes) -> None:
    try:
        data.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    text = np.frombuffer(data + bytes([0x80]) * 64, np.uint8)
    assert is_utf8(address_of(text), len(data)) == valid
    assert all_utf8(text, len(data)) == valid


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("delimiter", "ab"),
        ("delimiter", "\n"),
        ("delimiter", '"'),
        ("threads", 0),
        ("block_bytes", 1),
        ("list_delimiter", ""),
    ],
)
def test_knobs_out_of_range(knob: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=knob):
        CsvExamples("x.csv", ENCODER, **{knob: value})


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"seed": 3}, {"worker": 1}])
def test_ranges_that_cannot_be(
    tmp_path: Path, rows: list[list[str]], given: dict[str, int]
) -> None:
    write(tmp_path / "rows.csv", rows)
    with pytest.raises(ConfigError):
        CsvExamples(tmp_path / "rows.csv", ENCODER).iter_batches(**{"batch_size": 1, **given})


def test_no_files() -> None:
    with pytest.raises(DataError, match="empty list"):
        CsvExamples([], ENCODER)


def test_a_column_that_is_two_things(tmp_path: Path) -> None:
    spec = FeatureSpec(features=(Continuous("user_id"),))
    encoder = FeatureEncoder(spec).fit(pa.table({"user_id": [1.0]}))
    (tmp_path / "rows.csv").write_text("label,user_id\n1,1\n")
    with pytest.raises(ConfigError, match="two different things"):
        list(CsvExamples(tmp_path / "rows.csv", encoder).iter_batches(1))


def test_dropping_the_iterator_ends_its_threads(tmp_path: Path, rows: list[list[str]]) -> None:
    write(tmp_path / "rows.csv", rows * 50)
    before = threading.active_count()
    batches = CsvExamples(tmp_path / "rows.csv", ENCODER, block_bytes=300).iter_batches(3)
    next(batches)
    assert threading.active_count() > before
    del batches
    assert threading.active_count() == before


def test_a_spec_with_transforms_is_refused(tmp_path: Path) -> None:
    spec = FeatureSpec(transforms=(Log1p("x"),), features=(Continuous("x"),))
    encoder = FeatureEncoder(spec).fit(pa.table({"x": [1.0]}))
    (tmp_path / "x.csv").write_text("label,x\n1,2\n")
    with pytest.raises(ConfigError, match="can have no transforms"):
        CsvExamples(tmp_path / "x.csv", encoder)
