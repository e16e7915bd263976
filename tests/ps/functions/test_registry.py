"""Functions on the shards: what they see and write, and answers that no layout changes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps.embedded import EmbeddedParameterServer
from weiml.ps.functions.partials import Partials, combine_buckets, join_partials
from weiml.ps.functions.registry import (
    ELEMENTWISE,
    FUNCTIONS,
    ShardView,
    elementwise,
    find_function,
    get_function,
    load_function_modules,
    update_function,
)
from weiml.ps.functions.shard_view import Table
from weiml.ps.optimizers import SGD, Adagrad
from weiml.ps.partition import buckets_of_keys
from weiml.ps.rows.memory import floats
from weiml.ps.shard.vectors import VectorPart
from weiml.ps.tables.config import TableConfig
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.sparse import SparseTable

NUM_BUCKETS = 16
SPARSE = TableConfig("sparse", dim=2, optimizer=Adagrad(lr=0.1), init_scale=1.0)
DENSE = TableConfig("dense", dim=2, optimizer=Adagrad(lr=0.1), init_scale=1.0, rows=40)
KEYS = np.array([0, 1, 7, 2**64 - 1, 2**63, 12345, 99, 5, 1000, 31], np.uint64)
LAYOUTS = [[0] * 16, [0, 1] * 8, [0] * 3 + [1] * 9 + [2] * 4, [2, 0, 1, 1] * 4]

layouts = st.lists(st.integers(0, 3), min_size=NUM_BUCKETS, max_size=NUM_BUCKETS)


@dataclass
class Group:
    """Shards made by hand, and a client's work done by hand."""

    shards: np.ndarray
    views: list[ShardView]

    def call(self, name: str, *arguments: Any, keys: np.ndarray | None = None) -> Any:
        function = find_function(name)
        function.check(arguments, keys)
        partials, places = [], []
        for view in self.views:
            if keys is None:
                given = function.part(arguments, view.buckets, view.num_buckets)
                partials.append(function.run(view, *given))
                continue
            rows = view.table(arguments[0]).config.rows
            own = np.flatnonzero(
                self.shards[buckets_of_keys(keys, NUM_BUCKETS, rows)] == view.index
            )
            if len(own):
                cut = [
                    a[own] if isinstance(a, np.ndarray) and len(a) == len(keys) else a
                    for a in arguments[1:]
                ]
                partials.append(function.run(view, arguments[0], keys[own], *cut))
                places.append(own)
        return function.merge(partials, places if keys is not None else None)

    def state(self, table: str, keys: np.ndarray) -> np.ndarray:
        rows = self.views[0].table(table).config.rows
        shards = self.shards[buckets_of_keys(keys, NUM_BUCKETS, rows)]
        found = [
            self.views[shard].table(table).pull_state(keys[[i]]) for i, shard in enumerate(shards)
        ]
        return np.concatenate(found)


def make_group(layout: list[int], keys: np.ndarray = KEYS) -> Group:
    shards = np.array(layout)
    views = []
    for shard in range(max(layout) + 1):
        buckets = np.flatnonzero(shards == shard)
        sparse = SparseTable(SPARSE, NUM_BUCKETS)
        own = keys[shards[buckets_of_keys(keys, NUM_BUCKETS)] == shard]
        sparse.push_gradients(own, np.ones((len(own), 2), np.float32), 1)
        tables: dict[str, Table] = {
            "sparse": sparse,
            "dense": DenseTable(DENSE, NUM_BUCKETS, buckets),
        }
        vectors = {"v": VectorPart(50, NUM_BUCKETS, buckets)}
        views.append(ShardView(shard, tables, vectors, 2, NUM_BUCKETS, buckets))
    return Group(shards, views)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    load_function_modules(())
    functions, maps = dict(FUNCTIONS), dict(ELEMENTWISE)
    yield
    FUNCTIONS.clear()
    FUNCTIONS.update(functions)
    ELEMENTWISE.clear()
    ELEMENTWISE.update(maps)


# The order in which partial answers are put together


@given(layout=layouts, seed=st.integers(0, 999))
def test_sums_by_bucket_have_the_same_bits_on_any_shards(layout: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(0, 20, NUM_BUCKETS)
    whole = combine_buckets(np.arange(NUM_BUCKETS), values.tolist(), NUM_BUCKETS)
    assert whole.nodes == (1,)
    parts = []
    for shard in np.random.default_rng(seed).permutation(4):
        buckets = np.flatnonzero(np.array(layout) == shard)
        parts.append(combine_buckets(buckets, values[buckets].tolist(), NUM_BUCKETS))
    assert join_partials(parts) == whole.values[0]
    assert whole.values[0] == pytest.approx(values.sum(), rel=1e-12)


def test_neighbouring_buckets_leave_few_partial_answers() -> None:
    part = combine_buckets(np.arange(100, 900), [1.0] * 800, 1024)
    assert len(part.nodes) <= 2 * 10
    assert sum(part.values) == 800.0


def test_buckets_that_answer_twice_or_not_at_all_are_noticed() -> None:
    half = combine_buckets(np.arange(8), [1.0] * 8, 16)
    for parts in ([half], [half, half], []):
        with pytest.raises(ParameterServerError, match="do not cover every bucket exactly once"):
            join_partials(parts)


def test_buckets_without_an_answer_do_not_count() -> None:
    values = [None, 2.0, None, None]
    assert join_partials([combine_buckets(np.arange(4), values, 4)]) == 2.0
    assert join_partials([Partials((2, 3), (None, None))]) is None


# Functions over rows


def register_row_functions() -> None:
    @get_function("norms", level="rows", sees="weights")
    def norms(config: Any, keys: np.ndarray, weights: np.ndarray) -> Any:
        return np.sqrt((weights.astype(np.float64) ** 2).sum(axis=1))

    @get_function("sums", level="rows", merge=sum)
    def sums(config: Any, keys: np.ndarray, state: np.ndarray, factor: float) -> float:
        return float(state.sum(dtype=np.float64) * factor)

    @update_function("shift", level="rows")
    def shift(
        config: Any, keys: np.ndarray, state: np.ndarray, by: np.ndarray, also: float
    ) -> np.ndarray:
        state[:, 0] += by + np.float32(also)
        return state

    @update_function("shift_known", level="rows", missing="skip")
    def shift_known(config: Any, keys: np.ndarray, state: np.ndarray, by: np.ndarray) -> Any:
        return state + by[:, None]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("table", ["sparse", "dense"])
def test_a_function_over_rows_answers_in_the_order_of_the_keys(
    layout: list[int], table: str
) -> None:
    register_row_functions()
    group = make_group(layout)
    keys = np.append(KEYS, np.uint64(77)) if table == "sparse" else np.array([39, 0, 7], np.uint64)
    weights = group.state(table, keys)[:, :2]
    expected = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_array_equal(group.call("norms", table, keys=keys), expected)
    total = group.state(table, keys).sum(dtype=np.float64)
    assert group.call("sums", table, 2.0, keys=keys) == pytest.approx(2 * total, rel=1e-6)
    assert group.call("norms", table, keys=keys[:0]).shape == (0,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_update_over_rows_gets_its_own_keys_share_of_the_arguments(layout: list[int]) -> None:
    register_row_functions()
    group = make_group(layout)
    keys = np.append(KEYS[::-1], np.uint64(77))  # 77 has no row yet
    by = np.arange(11, dtype=np.float32)
    before = group.state("sparse", keys)
    assert group.call("shift", "sparse", by, 0.5, keys=keys) is None
    before[:, 0] += by + np.float32(0.5)
    np.testing.assert_array_equal(group.state("sparse", keys), before)
    assert sum(len(view.table("sparse")) for view in group.views) == 11
    changed = [view.table("sparse").changed_keys(1) for view in group.views]
    assert sorted(np.concatenate([c for c in changed if c is not None])) == sorted(keys)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_rows_can_be_left_out(layout: list[int]) -> None:
    register_row_functions()
    group = make_group(layout)
    keys = np.array([77, 5, 78, 31], np.uint64)
    by = np.array([1, 2, 3, 4], np.float32)
    before = group.state("sparse", keys)
    group.call("shift_known", "sparse", by, keys=keys)
    after = group.state("sparse", keys)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(after[[1, 3]], before[[1, 3]] + by[[1, 3], None])
    assert sum(len(view.table("sparse")) for view in group.views) == len(KEYS)


def test_rows_that_stay_the_same_do_not_count_as_changed() -> None:
    register_row_functions()
    group = make_group([0] * 16)
    group.call("shift", "sparse", np.array([0, 1], np.float32), 0.0, keys=KEYS[:2])
    changed = group.views[0].table("sparse").changed_keys(1)
    assert changed is not None
    assert changed.tolist() == [KEYS[1]]


def test_an_update_of_rows_refuses_what_it_cannot_store() -> None:
    @update_function("broken", level="rows")
    def broken(config: Any, keys: np.ndarray, state: np.ndarray, how: str) -> Any:
        return {"nan": state * np.float32("nan"), "shape": state[:, :1], "none": None}[how]

    group = make_group([0] * 16)
    before = group.state("sparse", KEYS)
    for how, message in (
        ("nan", "function 'broken' on shard 0: table 'sparse': the new state of key .* not finite"),
        ("shape", r"must have shape \(10, 4\), got \(10, 1\)"),
        ("none", r"must have shape \(10, 4\), got NoneType"),
        ("typo", "function 'broken' failed on shard 0: KeyError: 'typo'"),
    ):
        with pytest.raises(ParameterServerError, match=message):
            group.call("broken", "sparse", how, keys=KEYS)
    with pytest.raises(ParameterServerError, match="the keys repeat"):
        group.call("broken", "sparse", "nan", keys=KEYS[[0, 0]])
    with pytest.raises(ParameterServerError, match="table 'dense' has rows 0 … 39"):
        find_function("broken").run(group.views[0], "dense", np.array([40], np.uint64), "nan")
    np.testing.assert_array_equal(group.state("sparse", KEYS), before)


@numba.njit
def _double(addresses: np.ndarray, width: int) -> None:
    for i in range(addresses.size):
        if addresses[i]:
            row = floats(addresses[i], width)
            for c in range(width):
                row[c] *= np.float32(2)


@numba.njit
def _first_column(addresses: np.ndarray, width: int) -> float:
    total = 0.0
    for i in range(addresses.size):
        if addresses[i]:
            total += floats(addresses[i], width)[0]
    return total


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_loops_read_and_change_rows_at_their_addresses(layout: list[int]) -> None:
    @update_function("double", level="rows", sees="addresses", missing="skip")
    def double(config: TableConfig, keys: np.ndarray, addresses: np.ndarray) -> None:
        _double(addresses, config.width)

    @update_function("double_all", level="buckets", sees="addresses")
    def double_all(config: TableConfig, keys: np.ndarray, addresses: np.ndarray) -> None:
        _double(addresses, config.width)

    @get_function("first", level="buckets", sees="addresses", merge=sum)
    def first(config: TableConfig, keys: np.ndarray, addresses: np.ndarray) -> Any:
        return _first_column(addresses, config.width)

    @get_function("first_of", level="rows", sees="addresses", merge=sum)
    def first_of(config: TableConfig, keys: np.ndarray, addresses: np.ndarray) -> Any:
        return _first_column(addresses, config.width)

    group = make_group(layout)
    before = group.state("sparse", KEYS)
    twice = KEYS[[3, 3]]  # the same row twice is doubled twice
    group.call("double", "sparse", keys=np.append(twice, np.uint64(77)))
    before[3] *= 4
    np.testing.assert_array_equal(group.state("sparse", KEYS), before)
    group.call("double_all", "sparse")
    np.testing.assert_array_equal(group.state("sparse", KEYS), before * 2)
    expected = float((before[:, 0] * 2).sum(dtype=np.float64))
    assert group.call("first", "sparse") == pytest.approx(expected, rel=1e-12)
    assert group.call("first_of", "sparse", keys=KEYS) == pytest.approx(expected, rel=1e-12)
    assert sum(len(view.table("sparse")) for view in group.views) == len(KEYS)
    assert all(
        view.written_tables == {"sparse"} for view in group.views if len(view.table("sparse"))
    )


# Functions over buckets


@given(layout=layouts, seed=st.integers(0, 99))
def test_a_function_over_buckets_answers_the_same_bits_on_any_shards(
    layout: list[int], seed: int
) -> None:
    @get_function("float_sum", level="buckets", merge=sum)
    def float_sum(config: Any, keys: np.ndarray, state: np.ndarray) -> float:
        return float(state.sum(dtype=np.float64))

    keys = np.unique(np.random.default_rng(seed).integers(0, 2**64, 60, np.uint64))
    answers = []
    for shards in ([0] * 16, layout):
        group = make_group(shards, keys)
        for table in ("sparse", "dense"):
            answers.append(group.call("float_sum", table))
    assert answers[:2] == answers[2:]
    whole = make_group([0] * 16, keys).state("sparse", keys)
    assert answers[0] == pytest.approx(whole.sum(dtype=np.float64), rel=1e-9)


def test_a_function_over_buckets_of_an_empty_table_merges_nothing() -> None:
    group = make_group([0, 1] * 8, KEYS[:0])
    assert group.call("count_above", "sparse", 0.0) == 0
    keys, norms = group.call("top_rows", "sparse", 3)
    assert (len(keys), len(norms)) == (0, 0)


def test_what_was_merged_can_be_finished_on_the_client() -> None:
    @get_function(
        "mean",
        level="buckets",
        sees="weights",
        merge=lambda parts: np.sum(parts, axis=0),
        finish=lambda both: float(both[0] / both[1]),
    )
    def mean(config: Any, keys: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.array([weights.sum(dtype=np.float64), weights.size])

    group = make_group([0, 1] * 8)
    expected = group.state("sparse", KEYS)[:, :2].mean(dtype=np.float64)
    assert group.call("mean", "sparse") == pytest.approx(expected, rel=1e-6)


def test_an_update_over_buckets_changes_every_row_and_marks_those_that_differ() -> None:
    @update_function("clip", level="buckets")
    def clip(config: Any, keys: np.ndarray, state: np.ndarray, most: float) -> Any:
        return np.minimum(state, np.float32(most))

    group = make_group([0, 1] * 8)
    before = group.state("sparse", KEYS)
    most = float(np.median(before[:, 0]))
    group.call("clip", "sparse", most)
    np.testing.assert_array_equal(group.state("sparse", KEYS), np.minimum(before, np.float32(most)))
    changed = [view.table("sparse").changed_keys(1) for view in group.views]
    expected = KEYS[(before > np.float32(most)).any(axis=1)]
    assert sorted(np.concatenate([c for c in changed if c is not None])) == sorted(expected)
    group.call("clip", "dense", 0.0)
    every = np.arange(40, dtype=np.uint64)
    assert group.state("dense", every).max() == 0.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_built_in_table_functions_agree_with_numpy(layout: list[int]) -> None:
    group = make_group(layout)
    for table, keys in (("sparse", KEYS), ("dense", np.arange(40, dtype=np.uint64))):
        weights = group.state(table, keys)[:, :2]
        above = (np.abs(weights) > 0.5).any(axis=1).sum()
        assert group.call("count_above", table, 0.5) == above
        edges = [-1.0, 0.0, 0.25, 3.0]
        np.testing.assert_array_equal(
            group.call("weight_histogram", table, edges), np.histogram(weights, edges)[0]
        )
        norms = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=1))
        best = np.argsort(-norms)[:3]
        found, found_norms = group.call("top_rows", table, 3)
        np.testing.assert_array_equal(found, keys[best])
        np.testing.assert_allclose(found_norms, norms[best], rtol=1e-12)


def test_the_statistics_of_rows_come_with_which_rows_there_are() -> None:
    config = TableConfig("s", optimizer=SGD(), statistics=("clicks", "count", "last_seen", "shows"))
    counted = SparseTable(config, NUM_BUCKETS)
    known, missing = KEYS[:2], np.array([2**40, 2**41], np.uint64)
    for step in (4, 7):
        counted.push_gradients(known, np.ones((2, 1), np.float32), step, step=step)
    clicks = np.array([0.5, 3.0], np.float32)
    counted.push_statistics(known, clicks * 10, clicks, 8, step=7)
    group = make_group([0] * NUM_BUCKETS)
    group.views[0] = ShardView(0, {"s": counted}, {}, 9, NUM_BUCKETS, np.arange(NUM_BUCKETS))
    asked = np.array([missing[0], known[1], known[0], missing[1]], np.uint64)
    keys, present, statistics = group.call("row_statistics", "s", keys=asked)
    places = [keys.tolist().index(key) for key in asked.tolist()]
    assert present[places].tolist() == [False, True, True, False]
    assert {name: values[places].tolist() for name, values in statistics.items()} == {
        "count": [0, 2, 2, 0],
        "last_seen": [0, 7, 7, 0],
        "shows": [0.0, 30.0, 5.0, 0.0],
        "clicks": [0.0, 3.0, 0.5, 0.0],
    }


# Functions over a shard


def test_a_function_over_a_shard_sees_and_writes_anything_of_it() -> None:
    @get_function("hold", merge=list)
    def hold(view: ShardView, table: str, vector: str) -> tuple[int, int, int]:
        return view.index, len(view.table(table)), len(view.vector(vector))

    @update_function("set_all")
    def set_all(view: ShardView, vector: str, value: float, doomed: np.ndarray) -> None:
        view.write_vector(vector)[:] = np.float32(value)
        view.delete_rows("sparse", doomed)

    group = make_group([0, 1] * 8)
    assert [index for index, _, _ in group.call("hold", "sparse", "v")] == [0, 1]
    assert sum(rows for _, rows, _ in group.call("hold", "sparse", "v")) == len(KEYS)
    group.call("set_all", "v", 3.0, KEYS[:4])
    for view in group.views:
        assert view.vector("v").touched == 2
        assert (view.read_vector("v") == 3).all()
        assert (view.written_tables, view.written_vectors) == ({"sparse"}, {"v"})
    assert sum(rows for _, rows, _ in group.call("hold", "sparse", "v")) == len(KEYS) - 4


def test_what_is_only_read_stays_untouched() -> None:
    view = make_group([0] * 16).views[0]
    with pytest.raises(ValueError, match="read-only"):
        view.read_vector("v")[0] = 1
    assert (view.vector("v").touched, view.written_vectors) == (0, set())


def test_a_view_of_some_buckets_writes_no_others() -> None:
    @update_function("ones")
    def ones(view: ShardView, vector: str) -> None:
        view.write_vector(vector)[:] = 1

    @update_function("wipe", level="buckets")
    def wipe(config: Any, keys: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.zeros_like(state)

    whole = make_group([0] * 16).views[0]
    part, table = whole.vector("v"), whole.table("sparse")
    buckets = np.unique(buckets_of_keys(KEYS[:3], NUM_BUCKETS))
    some = ShardView(0, {"sparse": table}, {"v": part}, 5, NUM_BUCKETS, buckets)
    find_function("ones").run(some, "v")
    np.testing.assert_array_equal(np.flatnonzero(part.values), some.vector("v").places)
    assert part.touched == 5
    before = table.pull_state(KEYS)
    find_function("wipe").run(some, "sparse")
    inside = np.isin(buckets_of_keys(KEYS, NUM_BUCKETS), buckets)
    assert 0 < inside.sum() < len(KEYS)
    np.testing.assert_array_equal(table.pull_state(KEYS[inside]), 0)
    np.testing.assert_array_equal(table.pull_state(KEYS[~inside]), before[~inside])


def test_names_that_are_not_there_give_the_nearest() -> None:
    view = make_group([0] * 16).views[0]
    with pytest.raises(ParameterServerError, match="no table 'sprase'; did you mean 'sparse'"):
        view.table("sprase")
    with pytest.raises(ParameterServerError, match="no vector 'w'"):
        view.vector("w")
    with pytest.raises(ParameterServerError, match="no function 'dott'; did you mean 'dot'"):
        find_function("dott")


# Registration and arguments


def test_a_name_is_registered_once_and_the_same_code_may_come_again() -> None:
    def body(view: ShardView) -> int:
        return 1

    def other(view: ShardView) -> int:
        return 2

    get_function("mine", merge=sum)(body)
    get_function("mine", merge=sum)(body)
    with pytest.raises(ConfigError, match="'mine' is registered already, by .*body"):
        get_function("mine", merge=sum)(other)
    with pytest.raises(ConfigError, match="'dot' is registered already, by .*vector_functions.dot"):
        update_function("dot")(other)
    elementwise("mine")(np.exp)
    elementwise("mine")(np.exp)
    with pytest.raises(ConfigError, match="'mine' is registered already"):
        elementwise("mine")(np.log)
    other.__module__ = body.__module__ = "__main__"
    other.__qualname__ = body.__qualname__
    get_function("mine", merge=sum)(other)  # a notebook's cell, changed and run again
    assert find_function("mine").body is other


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: get_function("f"), "over shard needs merge="),
        (lambda: get_function("f", level="buckets"), "over buckets needs merge="),
        (lambda: update_function("f", sees="weights"), "weights are read only"),
        (lambda: update_function("no name")(lambda view: None), "must be a word"),
    ],
)
def test_a_function_that_could_not_run_is_refused_at_once(
    register: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        register()


@pytest.mark.parametrize("argument", [object(), {"a": 1}, np.array([object()]), [1, set()], len])
def test_arguments_that_cannot_travel_are_refused(argument: Any) -> None:
    with pytest.raises(ParameterServerError, match="function 'fill': argument 0 must be a number"):
        find_function("fill").check((argument, "v"))


def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent() -> None:
    register_row_functions()
    for name, arguments, keys, message in (
        (
            "dot",
            ("x",),
            None,
            r"missing a required argument: 'y'; its arguments are \(x, y\), got 1",
        ),
        ("dot", ("x", "y"), KEYS, "call it without keys"),
        ("shift", ("sparse", 1.0, 2.0), None, "call it with keys=…"),
        ("shift", ("sparse", 1.0), KEYS, "missing a required argument: 'also'"),
        ("shift", (), KEYS, "missing a required argument: 'table'"),
        ("top_rows", ("sparse", 1, 2), None, "too many positional arguments"),
    ):
        with pytest.raises(ParameterServerError, match=message):
            find_function(name).check(arguments, keys)
    find_function("fill").check((np.float32(1), "v"))
    find_function("lincomb").check(([1.0, 2.0], ("x", "y"), "out"))
    find_function("shift").check(("sparse", np.ones(2, np.float32), 2), KEYS)


def test_modules_of_functions_are_imported_by_name_or_the_error_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_functions.py").write_text(
        "from weiml.ps.functions.registry import get_function\n"
        "@get_function('rows_here', merge=sum)\n"
        "def rows_here(view, table):\n"
        "    return len(view.table(table))\n"
    )
    (tmp_path / "my_broken_functions.py").write_text("import nothing_of_that_name\n")
    with EmbeddedParameterServer(2, function_modules=("my_functions",)) as server:
        server.create_table(SPARSE)
        client = server.client()
        client.push("sparse", KEYS, np.ones((len(KEYS), 2), np.float32))
        assert client.call("rows_here", "sparse").wait() == len(KEYS)
    load_function_modules(["my_functions"])
    with pytest.raises(ConfigError, match="'my_broken_functions' cannot be .*nothing_of_that"):
        load_function_modules(["my_broken_functions"])
    with pytest.raises(ConfigError, match="'my_missing_functions' cannot be imported"):
        load_function_modules(["my_missing_functions"])
    del sys.modules["my_functions"]


def test_a_bfloat16_table_gives_and_takes_float32_states() -> None:
    @update_function("halve", level="buckets")
    def halve(config: Any, keys: np.ndarray, state: np.ndarray) -> np.ndarray:
        return state / 2

    config = TableConfig("t", dim=3, optimizer=SGD(lr=1.0), weights="bfloat16")
    table = SparseTable(config, NUM_BUCKETS)
    table.push_gradients(KEYS, np.full((len(KEYS), 3), -8, np.float32), 1)
    view = ShardView(0, {"t": table}, {}, 2, NUM_BUCKETS, np.arange(NUM_BUCKETS))
    find_function("halve").run(view, "t")
    np.testing.assert_array_equal(table.pull_weights(KEYS), np.full((len(KEYS), 3), 4))


def test_the_documentation_runs_as_it_stands(root: Path) -> None:
    text = (root / "docs" / "ps-functions.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, Any] = {"__name__": "ps_functions_documentation"}
    for block in blocks:
        # Without a file numba keeps no compiled code.
        exec(block.replace("cache=True, ", ""), names)
    built_in = {n for n, f in FUNCTIONS.items() if f.body.__module__.endswith("vector_functions")}
    missing = {name for name in built_in if f"`{name}" not in text}
    assert not missing
