from __future__ import annotations

import datetime as dt
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typing_extensions import override

from weiml.data import DailySink, DailySource, Examples, FileSink, FileSource, Rate, col, ratio
from weiml.data.formats import Csv
from weiml.data.sources import FeatureSource, Piece, TableSource
from weiml.errors import ConfigError, DataError
from weiml.features import Categorical, Continuous, FeatureSpec
from weiml.features.transforms import (
    MDL,
    Accumulator,
    Chain,
    Fitted,
    MinMax,
    QuantileBuckets,
    TargetMean,
    Transform,
)


def events(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user": rng.integers(0, 20, n),
            "item": rng.integers(0, 30, n),
            "click": rng.integers(0, 2, n),
            "t": rng.integers(0, 5000, n),
        }
    )


ITEMS = pa.table({"item": np.arange(25), "name": [f"item {i}" for i in range(25)]})


def several() -> Examples:
    return Examples.of([events(150, 1), events(100, 2), events(80, 3)])


class Centred(Transform):
    """A transform with something to fit: x minus its mean."""

    name = "centred"

    def __init__(self, column: str) -> None:
        self.column = column

    @property
    @override
    def inputs(self) -> tuple[str, ...]:
        return (self.column,)

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        if self.column not in schema.names:
            raise DataError(f"no column {self.column!r}")
        return schema.set(schema.get_field_index(self.column), pa.field(self.column, pa.float64()))

    @property
    @override
    def outputs(self) -> tuple[str, ...]:
        return self.inputs

    @override
    def to_mapping(self) -> dict[str, Any]:
        return {"type": self.name, "column": self.column}

    @override
    def accumulator(self) -> Accumulator:
        return _Mean(self)


class _Mean(Accumulator):
    def __init__(self, transform: Centred) -> None:
        self.transform, self.total, self.count = transform, 0.0, 0

    @override
    def add(self, table: pa.Table) -> None:
        self.total += pc.sum(table[self.transform.column]).as_py() or 0.0
        self.count += table.num_rows

    @override
    def merge(self, other: _Mean) -> None:
        self.total += other.total
        self.count += other.count

    @override
    def fitted(self) -> Fitted:
        return _Centred(self.transform, self.total / self.count)


class _Centred(Fitted):
    def __init__(self, transform: Centred, mean: float) -> None:
        self._transform, self.mean = transform, mean

    @property
    @override
    def transform(self) -> Transform:
        return self._transform

    @override
    def apply(self, table: pa.Table) -> pa.Table:
        column = self._transform.column
        at = table.column_names.index(column)
        return table.set_column(at, column, pc.subtract(table[column], self.mean))

    @override
    def to_mapping(self) -> dict[str, Any]:
        return {"mean": self.mean}


def test_a_sentence_reads_samples_transforms_joins_and_writes(tmp_path: Path) -> None:
    """Tweets of a dated input, a tenth of them, discretised, joined with topics by id, written."""
    tweets = pa.table({"tweet_id": np.arange(500), "length": np.arange(500.0)})
    Examples.of(tweets).write(DailySink(f"{tmp_path}/input", "2017-06-01"))
    topics = pa.table({"tweet_id": np.arange(0, 500, 2), "topic": ["a"] * 250})
    Examples.of(topics).write(FileSink(f"{tmp_path}/topics"))

    tweet_topic = FileSource(f"{tmp_path}/topics").read()
    (
        DailySource(f"{tmp_path}/input", "2017-06-01")
        .read()
        .filter(0.1)
        .transform(Centred("length"))
        .join_smaller(tweet_topic, "tweet_id", "left")
        .write(DailySink(f"{tmp_path}/output", "2017-06-01"))
    )

    written = FileSource(f"{tmp_path}/output/2017/06/01").read().to_table()
    assert written.column_names == ["tweet_id", "length", "topic"]
    assert 20 < written.num_rows < 80
    assert abs(pc.mean(written["length"]).as_py()) < 1e-9
    even = pc.equal(pc.bit_wise_and(written["tweet_id"], 1), 0)
    assert written["topic"].is_valid().equals(even)


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    Examples.of(ITEMS).write(FileSink(f"{tmp_path}/items"))
    plan = FileSource(f"{tmp_path}/items").read().filter(col("item") > 3)
    for file in tmp_path.rglob("part-*"):
        file.write_bytes(b"damaged")
    with pytest.raises(DataError, match="part-00000"):
        plan.count()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda e: e.filter(col("clik") > 0), "filter: no column 'clik'; did you mean 'click'"),
        (lambda e: e.filter(col("click") + 1), "must be true or false, it is int64"),
        (lambda e: e.filter(lambda t: t["click"]), "must be true or false, it is int64"),
        (lambda e: e.filter(pc.starts_with(col("click"), "x")), "types in .* do not fit"),
        (lambda e: e.select("user", "itm"), "select: no column 'itm'; did you mean 'item'"),
        (lambda e: e.drop("usr"), "drop: no column 'usr'"),
        (lambda e: e.with_columns(x=col("users") + 1), "x: no column 'users'; did you mean"),
        (lambda e: e.join(Examples.of(ITEMS), "user"), "no column 'user'"),
        (
            lambda e: e.join(Examples.of(ITEMS).rename(user="name").drop("item"), "user"),
            "keys of different types never meet: 'user' is int64 on the left, 'user' is string",
        ),
        (lambda e: e.join(e, "user"), "both sides have a column 'item'"),
        (lambda e: e.join(Examples.of(ITEMS), "item", "outr"), "unknown join 'outr'"),
        (lambda e: e.join_smaller(Examples.of(ITEMS), "item", "outer"), "use join_larger"),
        (lambda e: e.group_aggregate("itm", n="count"), "no column 'itm'"),
        (lambda e: e.group_aggregate("item", n=("click", "summ")), "unknown aggregate 'summ'"),
        (lambda e: e.with_counters("user", "time", "1h"), "time: no column 'time'"),
        (
            lambda e: e.with_counters("user", "t", "1x"),
            "a window must be a whole number",
        ),
        (lambda e: e.with_counters("user", "t", "1h", sums="clicks"), "did you mean 'click'"),
        (lambda e: e.map(lambda t: t["click"]), "must return a pyarrow.Table, got ChunkedArray"),
        (lambda e: e.map(lambda t: t.drop(["x"])), "fails on a table of no rows"),
        (lambda e: e.sample(1.5), "0 … 1, got 1.5"),
        (lambda e: e.filter(True), "an expression such as"),
        (lambda e: e.filter("x > 1"), "an expression such as"),
        (lambda e: e.filter(pc.field(0) > 1), "takes a column by its position"),
        (lambda e: e.rename(a="user", b="user"), "two names"),
        (lambda e: e.join(Examples.of(ITEMS), ()), "at least one"),
        (
            lambda e: e.join_as_of(e, ["user"], "t", other_on=["user", "item"]),
            "as many key columns",
        ),
        (lambda e: e.join_as_of(e.select("user", "t"), "user", "t", within=-1), "at least 0"),
        (
            lambda e: e.label_by(e.select("user", "t"), "user", "t", within="30m").with_counters(
                "item", "t", "1h", sums="label", delay="10m"
            ),
            "'label' is known 1800 s after its example only",
        ),
        (lambda e: e.split_by_hash("user", {"a": 0.5}), "sum to 1"),
        (lambda e: e.union(Examples.of(ITEMS)), "same columns"),
        (lambda e: e.repartition(0), "at least 1, got 0"),
        (lambda e: e.using(engine="spark"), "auto, local or ray, got 'spark'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(step: Any, message: str) -> None:
    class Unread(TableSource):
        def pieces(self) -> list[Piece]:
            return [_Unreadable()]

    with pytest.raises((DataError, ConfigError), match=message):
        step(Examples.read(Unread(events(3))))


class _Unreadable(Piece):
    num_bytes = 1

    def read(self, schema: pa.Schema) -> Any:
        raise AssertionError("the plan was run")


def test_row_operations_equal_their_definition() -> None:
    table = several().to_table()
    done = (
        several()
        .filter(col("user") > 4)
        .with_columns(twice=col("click") * 2, place="feed")
        .rename(clicked="click")
        .map(lambda t: t.append_column("sum", pc.add(t["clicked"], t["twice"])))
        .select("user", "sum", at="t")
        .to_table()
    )
    chosen = table.filter(pc.greater(table["user"], 4))
    assert done["user"].equals(chosen["user"])
    assert done["sum"].to_pylist() == [3 * click for click in chosen["click"].to_pylist()]
    assert done["at"].to_pylist() == chosen["t"].to_pylist()


def test_a_map_that_breaks_its_word_is_told() -> None:
    def fickle(table: pa.Table) -> pa.Table:
        return table if table.num_rows == 0 else table.drop(["click"])

    with pytest.raises(DataError, match="map fickle: .*no column 'click'"):
        several().map(fickle).to_table()


def test_sampling_is_fixed_by_the_seed_and_by_key_takes_all_or_nothing() -> None:
    big = Examples.of([events(4000, 1), events(4000, 2)])
    once, again = big.sample(0.3, seed=5).to_table(), big.sample(0.3, seed=5).to_table()
    assert once.equals(again)
    assert not once.equals(big.sample(0.3, seed=6).to_table())
    assert 0.27 < once.num_rows / 8000 < 0.33
    assert big.sample(0.0).count() == 0
    assert big.sample(1.0).count() == 8000
    users = set(big.sample(0.5, by="user", seed=1).to_table()["user"].to_pylist())
    assert 0 < len(users) < 20
    assert sum(user in users for user in big.to_table()["user"].to_pylist()) == (
        big.sample(0.5, by="user", seed=1).count()
    )


def test_splits_by_key_share_no_key_and_are_not_those_of_a_sample() -> None:
    log = Examples.of(pa.table({"user": np.arange(4000) % 2000}))
    parts = log.sample(0.5, by="user").split_by_hash("user")
    users = {name: set(part.to_table()["user"].to_pylist()) for name, part in parts.items()}
    assert not users["train"] & users["validation"]
    assert not users["train"] & users["test"]
    total = sum(map(len, users.values()))
    assert 900 < total < 1100
    assert 0.7 < len(users["train"]) / total < 0.9
    assert min(map(len, users.values())) > 60


def test_splits_by_time_leave_no_example_out_and_do_not_tear_a_second() -> None:
    parts = several().split_by_time("t", validation_share=0.2, test_share=0.1)
    tables = {name: part.to_table() for name, part in parts.items()}
    assert sum(table.num_rows for table in tables.values()) == 330
    limits = [pc.min_max(tables[name]["t"]).as_py() for name in ("train", "validation", "test")]
    assert limits[0]["max"] < limits[1]["min"] <= limits[1]["max"] < limits[2]["min"]
    assert 25 <= tables["test"].num_rows <= 40


@pytest.mark.parametrize("partitions", [1, 4])
def test_shuffle_is_a_permutation_fixed_by_the_seed(partitions: int) -> None:
    base = several().using(partitions=partitions)
    shuffled = base.shuffle(3).to_table()
    assert shuffled.equals(base.shuffle(3).to_table())
    assert not shuffled.equals(base.shuffle(4).to_table())
    assert not shuffled.equals(base.to_table())
    assert sorted(map(str, shuffled.to_pylist())) == sorted(map(str, base.to_table().to_pylist()))


def test_repartition_by_key_keeps_keys_together_and_spreads_evenly_without(tmp_path: Path) -> None:
    several().repartition(3, by="user").write(FileSink(f"{tmp_path}/by"))
    users = [
        set(FileSource(str(file)).read().to_table()["user"].to_pylist())
        for file in sorted((tmp_path / "by").glob("part-*"))
    ]
    assert len(users) == 3
    assert sum(map(len, users)) == len(set.union(*users)) == 20
    several().repartition(4).write(FileSink(f"{tmp_path}/even"))
    sizes = [FileSource(str(file)).read().count() for file in (tmp_path / "even").glob("part-*")]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 3


def test_only_the_columns_that_are_needed_are_read() -> None:
    asked: list[list[str]] = []

    class Watched(TableSource):
        def pieces(self) -> list[Piece]:
            return [_Watched(asked)]

    base = Examples.read(Watched(events(3)))
    base.select("item", "click").filter(col("click") > 0).select("item").to_table()
    base.filter(col("t") > 100).with_columns(y=col("user") + 1).select("y").to_table()
    base.count()
    base.map(lambda table: table).select("item").to_table()
    base.group_aggregate("item", n="count").to_table()
    base.join(Examples.of(ITEMS), "item").select("name").to_table()
    base.join_larger(Examples.of(ITEMS), "item").with_counters("item", "t", None).select(
        "name", "item_count_all"
    ).to_table()
    base.shuffle().select("click").to_table()
    assert asked == [
        ["item", "click"],
        ["user", "t"],
        ["user"],
        ["user", "item", "click", "t"],
        ["item"],
        ["item"],
        ["item", "t"],
        ["click"],
    ]


class _Watched(Piece):
    num_bytes = 1

    def __init__(self, asked: list[list[str]]) -> None:
        self.asked = asked

    def read(self, schema: pa.Schema) -> Any:
        self.asked.append(schema.names)
        yield events(3).select(schema.names)


def test_timestamps_serve_as_times_and_days_as_keys() -> None:
    start = dt.datetime(2024, 2, 28, tzinfo=dt.UTC)
    times = pa.array([start + dt.timedelta(hours=9 * i) for i in range(8)])
    base = Examples.of(pa.table({"at": times, "x": [1] * 8}))
    base = base.with_columns(day=col("at").cast(pa.date32()))
    counted = base.with_counters("x", "at", ["1d", 3600], sums="x").to_table()
    assert counted["x_count_1d"].to_pylist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert counted["x_count_3600s"].to_pylist() == [0] * 8
    assert base.group_aggregate("day", n="count").to_table()["n"].to_pylist() == [3, 3, 2]


def test_show_and_explain_read_well(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Examples.of(ITEMS).join(several(), "item").filter(col("click") > 0)
    plan.select("name", "user").show(1)
    assert capsys.readouterr().out.splitlines()[0].split() == ["name", "user"]
    lines = plan.explain().splitlines()
    assert lines[0] == "filter (click > 0)"
    assert lines[1] == "  inner join on item, the right side carried along"
    assert "read 330 rows in memory" in lines[3]
    assert repr(plan).startswith("Examples(item: int64, name: string")


def test_progress_tells_of_each_piece() -> None:
    told: list[tuple[str, float | None, float | None]] = []
    several().shuffle().using(progress=lambda *at: told.append(at), partitions=2).count()
    assert told == [
        *(("3 pieces", i + 1.0, 3.0) for i in range(3)),
        *(("shuffle 0", i + 1.0, 2.0) for i in range(2)),
    ]


def test_an_abandoned_reader_leaves_no_thread_running() -> None:
    def running() -> set[str]:
        return {t.name for t in threading.enumerate() if t.name.startswith("examples")}

    tables = several().iter_tables()
    next(tables)
    assert running()
    tables.close()  # type: ignore[attr-defined]
    assert not running()


def test_a_look_reads_no_more_than_it_shows() -> None:
    read: list[int] = []

    class Endless(Piece):
        def read(self, schema: pa.Schema) -> Any:
            while True:
                read.append(1)
                yield events(5)

    class Source(TableSource):
        def pieces(self) -> list[Piece]:
            return [Endless(), Endless()]

    looked = Examples.read(Source(events(5))).filter(col("user") >= 0).head(12)
    assert looked.num_rows == 12
    assert len(read) == 3


def test_what_goes_wrong_with_the_data_names_the_operation() -> None:
    base = Examples.of(pa.table({"a": [4, 6], "b": [2, 0], "k": [2**62, 2**62]}))
    with pytest.raises(DataError, match="c = divide_checked.*divide by zero"):
        base.with_columns(c=col("a") / col("b")).to_table()
    assert base.with_columns(c=ratio(col("a"), col("b"))).to_table()["c"].to_pylist() == [2.0, None]
    with pytest.raises(DataError, match="overflow"):
        base.filter(col("k") * 4 > 0).to_table()
    with pytest.raises(DataError, match="times must be integers or timestamps"):
        Examples.of(pa.table({"t": [1.0]})).split_by_time("t")
    with pytest.raises(DataError, match="same name: a"):
        Examples.of(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]))


def test_what_is_stored_comes_back_as_it_was(tmp_path: Path) -> None:
    base = Examples.of(pa.table({"zip": ["007", "010"], "x": [1.5, None]}))
    for n, format in enumerate(("csv", Csv(delimiter=";"), "parquet", "jsonl")):
        stored = base.stored(f"{tmp_path}/{n}", format=format)
        assert stored.to_table().equals(base.to_table())


def test_unknown_sizes_are_taken_for_large() -> None:
    class Unknown(Piece):
        def read(self, schema: pa.Schema) -> Any:
            yield ITEMS.select(schema.names)

    class Source(TableSource):
        def pieces(self) -> list[Piece]:
            return [Unknown()]

    unknown = Examples.read(Source(ITEMS))
    assert unknown.plan.num_bytes() is None
    joined = several().join(unknown, "item")
    assert "carried" not in joined.explain()
    assert several().join_smaller(unknown, "item").plan.num_bytes() is None
    assert joined.using(engine="local").count() > 0


def test_ray_gives_the_same_examples_in_the_same_order(ray_session: None, tmp_path: Path) -> None:
    clicks = several().filter(col("click") > 0).select("user", "t")
    rate = Rate(of="label", prior=0.1)
    plan = (
        several()
        .filter(0.9)
        .join(Examples.of(ITEMS), "item", "left")
        .label_by(clicks, "user", "t", within="10m")
        .with_counters("item", "t", ["1h", None], sums="label", rates={"ctr": rate}, delay="10m")
        .shuffle(3)
        .using(partitions=3)
    )
    named = Examples.of(ITEMS).select("item", other="name")
    outer = plan.join(named, "item", "outer", carry=False)
    folder = outer.using(engine="ray").write(FileSink(f"{tmp_path}/out"))
    assert FileSource(folder).read().to_table().equals(outer.to_table())


@pytest.mark.slow
def test_a_worker_that_dies_costs_nothing(ray_session: None, tmp_path: Path) -> None:
    flag = tmp_path / "died"

    def dies_once(table: pa.Table) -> pa.Table:
        if table.num_rows and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return table

    plan = several().map(dies_once).shuffle(2).using(partitions=3, engine="ray")
    folder = plan.write(FileSink(f"{tmp_path}/out"))
    assert flag.exists()
    expected = several().shuffle(2).using(partitions=3).to_table()
    assert FileSource(folder).read().to_table().equals(expected)


def test_ray_tells_errors_as_they_are(ray_session: None, tmp_path: Path) -> None:
    Examples.of(ITEMS).write(FileSink(f"{tmp_path}/items"))
    plan = FileSource(f"{tmp_path}/items").read().using(engine="ray")
    for file in tmp_path.rglob("part-*"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="part-00000.*: not a whole Parquet file"):
        plan.write(FileSink(f"{tmp_path}/out"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["_weiml.json"]


def test_fitting_joins_the_parts_of_pieces_in_order() -> None:
    fitted = several().fit(Centred("t"))
    assert isinstance(fitted, _Centred)
    assert fitted.mean == pytest.approx(pc.mean(several().to_table()["t"]).as_py())


def test_fitting_tells_what_is_wrong_before_it_reads() -> None:
    class Unread(TableSource):
        def pieces(self) -> list[Piece]:
            return [_Unreadable()]

    base = Examples.read(Unread(events(3).append_column("name", pa.array(["a"] * 3))))
    with pytest.raises(DataError, match="'name'"):
        base.fit(MinMax("name"))
    with pytest.raises(DataError, match="no column 'clik'"):
        base.fit(MDL("t", label="clik"))
    with pytest.raises(DataError, match="'name'"):
        base.fit_encoder(FeatureSpec(features=(Categorical("t"), Continuous("name"))))


def test_labels_may_be_whole_floats_and_folds_have_a_column_of_their_own() -> None:
    whole = several().with_columns(label=col("click").cast("float"))
    assert whole.fit(MDL("item")) == whole.with_columns(label=col("click")).fit(MDL("item"))
    with pytest.raises(DataError, match="label of mdl needs categories, or whole numbers"):
        whole.with_columns(label=col("label") + 0.5).fit(MDL("item"))
    assert whole.fit(TargetMean(("item",), fold_by="user")).apply(whole.to_table()).num_rows == 330


def test_fitting_takes_as_many_passes_as_the_transform_needs() -> None:
    chain = Chain(MinMax("t"), QuantileBuckets("t", buckets=4))
    label = MDL("item", label="click", output="bucket")
    for transform in (chain, label):
        assert several().fit(transform) == transform.fit(several().to_table())
    done = several().transform(chain).to_table()
    assert set(done["t"].to_pylist()) == {1, 2, 3, 4}


def test_a_source_is_the_only_thing_one_has_to_write() -> None:
    class Numbers(FeatureSource):
        @override
        def schema(self) -> pa.Schema:
            return pa.schema({"n": pa.int64()})

        @override
        def pieces(self) -> list[Piece]:
            return TableSource([pa.table({"n": [i]}) for i in range(3)]).pieces()

    assert Numbers().read().to_table()["n"].to_pylist() == [0, 1, 2]
