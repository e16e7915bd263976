from __future__ import annotations

import json

import pyarrow as pa
import pytest

from weiml.data.quality import ColumnConstraint, Constraints, statistics_of
from weiml.errors import ConfigError

GOOD = pa.table({"age": [20, 30, None, 50], "city": ["x", "y", "x", "y"]})


def test_what_they_are_inferred_from_passes() -> None:
    constraints = Constraints.infer(statistics_of([GOOD]))
    assert constraints.check(statistics_of([GOOD])) == []
    assert Constraints.from_mapping(json.loads(json.dumps(constraints.to_mapping()))) == constraints


def test_what_breaks_them_is_found() -> None:
    constraints = Constraints.infer(statistics_of([GOOD]))
    bad = pa.table({"age": [10, None, None, 60], "city": ["x", "z", "z", "w"]})
    found = {(f.feature, f.measure): f for f in constraints.check(statistics_of([bad]))}
    assert set(found) == {("age", "min"), ("age", "max"), ("city", "domain")}
    assert found["age", "max"].threshold == 50
    assert "'w', 'z'" in found["city", "domain"].detail
    gone = constraints.check(statistics_of([pa.table({"age": ["x", None, None, None]})]))
    assert {(f.feature, f.measure) for f in gone} == {
        ("age", "type"),
        ("age", "missing_share"),
        ("city", "presence"),
    }


def test_new_columns_may_be_forbidden_and_many_values_give_no_domain() -> None:
    many = pa.table({"id": [str(i) for i in range(100)]})
    (column,) = Constraints.infer(statistics_of([many])).columns
    assert column.domain is None
    strict = Constraints(columns=(ColumnConstraint(name="age"),), allow_new_columns=False)
    assert [f.feature for f in strict.check(statistics_of([GOOD]))] == ["city"]
    with pytest.raises(ConfigError, match="more than once"):
        Constraints(columns=(ColumnConstraint(name="a"), ColumnConstraint(name="a")))
