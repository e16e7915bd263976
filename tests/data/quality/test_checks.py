from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.config import from_mapping
from weiml.data.quality import Bounds, Checks, FeatureBounds, check, require_none, statistics_of
from weiml.errors import ConfigError, DataError

DAY = pa.table(
    {"age": [20.0, 30.0, 40.0, 50.0] * 25, "city": ["x", "y"] * 50, "id": list(range(100))}
)


def test_each_bound_is_checked_and_named() -> None:
    table = pa.table({"age": [0.0, None, None, 500.0], "city": ["x"] * 4})
    checks = Checks(
        min_rows=10,
        all=Bounds(max_missing=0.1),
        features=(
            FeatureBounds(name="age", max_zero=0.2, min=1, max=120),
            FeatureBounds(name="city", min_distinct=2),
        ),
    )
    found = {(f.feature, f.measure): f for f in check(statistics_of([table]), checks)}
    assert set(found) == {
        ("(all)", "rows"),
        ("age", "missing_share"),
        ("age", "zero_share"),
        ("age", "min"),
        ("age", "max"),
        ("city", "distinct"),
    }
    assert (found["age", "max"].value, found["age", "max"].threshold) == (500.0, 120)


def test_drift_is_checked_against_a_reference_and_raised_with_all_that_is_known() -> None:
    moved = DAY.set_column(1, "city", pa.array(["x"] * 95 + ["y"] * 5))
    checks = Checks(ignore=("id",))
    reference = statistics_of([DAY])
    assert check(statistics_of([DAY]), checks, reference) == []
    assert check(statistics_of([moved]), checks) == []
    found = check(statistics_of([moved]), checks, reference)
    assert [(f.feature, f.measure) for f in found] == [("city", "psi")]
    with pytest.raises(DataError, match=r"feature 'city': psi is 1\.3.*threshold 0.25 .*bin 'y'"):
        require_none(found)


def test_each_measure_of_drift_has_its_bound() -> None:
    moved = DAY.set_column(1, "city", pa.array(["x"] * 95 + ["y"] * 5))
    checks = Checks(
        all=Bounds(),
        features=(FeatureBounds(name="city", max_l_infinity=0.3, max_jensen_shannon=0.1),),
    )
    found = check(statistics_of([moved]), checks, statistics_of([DAY]))
    assert [f.measure for f in found] == ["l_infinity", "jensen_shannon"]


def test_columns_of_the_reference_must_be_there() -> None:
    changed = DAY.drop_columns(["city"]).set_column(0, "age", pa.array(["old"] * 100))
    found = check(statistics_of([changed]), Checks(), statistics_of([DAY]))
    assert {(f.feature, f.measure) for f in found} == {("city", "presence"), ("age", "type")}
    assert check(statistics_of([changed]), Checks(same_columns=False), statistics_of([DAY])) == []


def test_checks_come_from_plain_mappings_and_are_checked_themselves() -> None:
    tree = {"all": {"max_psi": 0.1}, "features": [{"name": "age", "max_missing": 0.5}]}
    checks = from_mapping(Checks, tree)
    assert checks.bounds_of("age") == Bounds(max_psi=0.1, max_missing=0.5)
    assert checks.bounds_of("city") == Bounds(max_psi=0.1)
    with pytest.raises(ConfigError, match="did you mean 'max_missing'"):
        from_mapping(Checks, {"all": {"max_mising": 1.0}})
    with pytest.raises(ConfigError, match="max_missing must be a share"):
        Bounds(max_missing=2.0)
    with pytest.raises(ConfigError, match="max_psi must not be negative"):
        Bounds(max_psi=-1.0)
    with pytest.raises(DataError, match="no feature: 'agee'; did you mean 'age'"):
        check(statistics_of([DAY]), Checks(features=(FeatureBounds(name="agee"),)))
