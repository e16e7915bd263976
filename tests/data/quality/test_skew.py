from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.data.quality import compare_rows
from weiml.errors import ConfigError, DataError

NAN = float("nan")


def test_rows_are_joined_by_id_and_compared_one_by_one() -> None:
    served = pa.table({"id": [1, 2, 3, 9], "x": [1.0, 2.0, NAN, 0.0], "c": ["a", "b", None, "z"]})
    offline = pa.table({"c": ["b", "a", "c", "y"], "x": [2.5, 1.0, NAN, 1.0], "id": [2, 1, 3, 7]})
    skew = compare_rows(served, offline, by=["id"])
    assert (skew.compared, skew.only_served, skew.only_offline) == (3, 1, 1)
    found = {f.feature: f for f in skew.features}
    assert (found["x"].differing, found["x"].examples, found["x"].largest) == (1, (2,), 0.5)
    assert (found["c"].differing, found["c"].examples) == (1, (3,))
    (finding,) = [f for f in skew.check(0.3) if f.feature == "x"]
    assert finding.value == pytest.approx(1 / 3)


def test_tolerances() -> None:
    served, offline = pa.table({"id": [1], "x": [100.1]}), pa.table({"id": [1], "x": [100.0]})
    for knobs, differing in [({}, 1), ({"tolerance": 0.2}, 0), ({"relative": 0.01}, 0)]:
        skew = compare_rows(served, offline, by=["id"], **knobs)  # type: ignore[arg-type]
        assert skew.features[0].differing == differing
    with pytest.raises(ConfigError, match="negative"):
        compare_rows(served, offline, by=["id"], tolerance=-1)


@pytest.mark.parametrize(
    ("a", "b", "differing"),
    [
        ([[1.0, 2.0], [], None], [[1.0, 2.1], [], []], (0, 2)),
        ([["x"], ["x", "y"], None], [["x"], ["y", "x"], None], (1,)),
        ([{"k": 1}, {"k": None}, None], [{"k": 1}, {"k": 2}, None], (1,)),
        ([[{"k": 1}], [], []], [[{"k": 2}], [], []], (0,)),
        ([float("inf"), 1.0, -0.0], [float("inf"), NAN, 0.0], (1,)),
        ([True, False, None], [True, True, None], (1,)),
    ],
)
def test_types(a: list[object], b: list[object], differing: tuple[int, ...]) -> None:
    served, offline = (pa.table({"id": [0, 1, 2], "f": pa.array(x)}) for x in (a, b))
    (skew,) = compare_rows(served, offline, by=["id"]).features
    assert skew.examples == differing


def test_maps_and_whole_numbers_against_floats() -> None:
    kind = pa.map_(pa.string(), pa.float64())
    served = pa.table({"id": [1, 2], "m": pa.array([[("a", 1)], [("a", 1)]], kind), "n": [1, 2]})
    offline = pa.table(
        {"id": [1, 2], "m": pa.array([[("a", 1)], [("b", 1)]], kind), "n": [1.0, 2.5]}
    )
    skews = {f.feature: f.examples for f in compare_rows(served, offline, by=["id"]).features}
    assert skews == {"m": (2,), "n": (2,)}


def test_ids_of_several_columns() -> None:
    served = pa.table({"u": [1, 1], "t": ["a", "b"], "x": [1, 2]})
    offline = pa.table({"u": [1, 1], "t": ["b", "a"], "x": [2, 3]})
    (skew,) = compare_rows(served, offline, by=["u", "t"]).features
    assert skew.examples == ({"u": 1, "t": "a"},)


def test_wrong_ids_and_features_are_told() -> None:
    table = pa.table({"id": [1, 2], "x": [1.0, 2.0]})
    for other, said in [
        (pa.table({"id": [1, 1], "x": [1.0, 2.0]}), "ids of .* that repeat"),
        (pa.table({"id": [1, None], "x": [1.0, 2.0]}), "1 null ids"),
        (pa.table({"ids": [1, 2]}), "no column 'id'"),
        (pa.table({"id": [1, 2], "x": ["a", "b"]}), "is double when served, string offline"),
    ]:
        with pytest.raises(DataError, match=said):
            compare_rows(table, other, by=["id"])
    with pytest.raises(DataError, match="'y' is not on both sides"):
        compare_rows(table, table, by=["id"], features=["y"])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (pa.array(["x", "y", None]), pa.array(["x", "z", None]).dictionary_encode()),
        (pa.array(["x", "y", None], pa.large_string()), pa.array(["x", "z", None])),
        (pa.array(["x", "y", None], pa.string_view()), pa.array(["x", "z", None])),
        (pa.array([1.0, 2.0, None]).dictionary_encode(), pa.array([1, 3, None])),
        (
            pa.array([["x", "y"], ["y", None], None], pa.list_(pa.string(), 2)),
            pa.array([["x", "y"], ["y", "y"], None], pa.large_list(pa.large_string())),
        ),
        (
            pa.array([[1.0, 2.0], [2.0, 3.0], None], pa.list_(pa.float64(), 2)),
            pa.array([[1.0, 2.0], [2.0, 4.0], None], pa.list_(pa.float64(), 2)),
        ),
    ],
)
def test_forms_of_a_type_do_not_count(a: pa.Array, b: pa.Array) -> None:
    ids = pa.array(["r1", "r2", "r3"])
    served = pa.table({"i": ids.dictionary_encode(), "v": a})
    for one, other in (
        (served, pa.table({"i": ids, "v": b})),
        (pa.table({"i": ids, "v": b}), served),
    ):
        (skew,) = compare_rows(one, other, by=["i"]).features
        assert (skew.differing, skew.examples) == (1, ("r2",))
