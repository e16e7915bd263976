"""Chains are fitted stage by stage on what comes out before; parallel ones in one pass."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import (
    CDF,
    Chain,
    Fill,
    Log1p,
    MinMax,
    MissingIndicator,
    Powers,
    Standard,
    Together,
    Transform,
    fit_tables,
    transform_from_mapping,
)


def passes(transform: Transform, table: pa.Table) -> int:
    reads = []

    def tables() -> list[pa.Table]:
        reads.append(1)
        return [table]

    fit_tables(transform, tables)
    return len(reads)


def test_a_stage_is_fitted_on_what_the_one_before_makes() -> None:
    table = pa.table({"x": [0.0, 3.0, None, 15.0]})
    chain = Chain(Fill("x", by="constant", value=63.0), Log1p("x"), MinMax("x"), Powers("x"))
    made = chain.fit(table).apply(table)
    np.testing.assert_allclose(made.column("x"), np.log([1, 4, 64, 16]) / np.log(64))
    np.testing.assert_allclose(made.column("x_square"), made.column("x").to_numpy() ** 2)
    assert chain.inputs == ("x",)
    assert chain.outputs == ("x", "x_square", "x_sqrt")
    assert Chain(Log1p("x", output="z"), MinMax("z")).inputs == ("x",)


def test_passes_are_those_of_stages_that_learn() -> None:
    table = pa.table({"x": [1.0, 2.0, 4.0], "y": [3.0, 2.0, 1.0]})
    assert passes(Log1p("x"), table) == 0
    assert passes(Chain(Log1p("x"), Powers("x")), table) == 0
    assert passes(Chain(Log1p("x"), MinMax("x"), Powers("x")), table) == 1
    assert passes(Chain(MinMax("x"), Log1p("x"), Standard("x")), table) == 2
    assert passes(Together(MinMax("x"), Standard("y"), Log1p("x", output="l")), table) == 1
    assert passes(Chain(Together(MinMax("x"), Standard("y")), CDF("y")), table) == 2


def test_a_pass_too_few_is_told() -> None:
    seen = Chain(MinMax("x"), Standard("x")).accumulator()
    seen.add(pa.table({"x": [1.0, 2.0]}))
    with pytest.raises(DataError, match="another pass"):
        seen.fitted()


def test_accumulators_of_different_passes_do_not_merge() -> None:
    chain = Chain(MinMax("x"), Standard("x"))
    first = chain.accumulator()
    first.add(pa.table({"x": [1.0, 2.0]}))
    second = first.then()
    assert second is not None
    with pytest.raises(DataError, match="different passes"):
        second.merge(first)


def test_parallel_transforms_see_the_table_as_it_is_given() -> None:
    table = pa.table({"x": [1.0, None, 3.0]})
    both = Together(
        Fill("x", by="constant", value=0.0), MissingIndicator("x"), MinMax("x", output="s")
    )
    made = both.fit(table).apply(table).to_pydict()
    assert made == {
        "x": [1.0, 0.0, 3.0],
        "x_missing": [False, True, False],
        "s": [0.0, None, 1.0],
    }


def test_a_tie_amid_others_is_read_a_second_time_within_a_composition(
    rng: np.random.Generator,
) -> None:
    x = np.where(rng.random(50_000) < 0.5, 0.3, rng.normal(size=50_000))
    table = pa.table({"x": x, "y": rng.random(50_000)})
    both = Together(CDF("x"), MinMax("y"))
    assert passes(both, table) == 2
    alone = CDF("x").fit(table).apply(table).column("x")
    assert both.fit(table).apply(table).column("x").equals(alone)
    assert Chain(CDF("x"), MinMax("y")).fit(table).apply(table).column("x").equals(alone)


def test_wrong_compositions_are_told() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Chain()
    with pytest.raises(ConfigError, match="more than one transform"):
        Together(MinMax("x"), Standard("x"))
    with pytest.raises(ConfigError, match=r"stages\[1\].*did you mean 'min_max'"):
        transform_from_mapping(
            {
                "type": "chain",
                "stages": [{"type": "log1p", "column": "x"}, {"type": "min_mx", "column": "x"}],
            }
        )
