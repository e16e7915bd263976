"""Means of the label: known answers, and that no training row sees its own label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import TargetMean, fit_transform_out_of_fold
from weiml.features.transforms.target_mean import FittedTargetMean

rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=40
)


def table(drawn: list[tuple[str, int, Any]]) -> pa.Table:
    city, user, label = zip(*drawn, strict=True)
    return pa.table({"city": city, "user": user, "label": pa.array(label, pa.float64())})


def test_known_answers() -> None:
    train = pa.table({"c": ["a", "a", "a", "b", None, "a"], "label": [1, 1, 0, 0, 1, None]})
    fitted = TargetMean(("c",), strength=2.0, with_count=True).fit(train)
    assert isinstance(fitted, FittedTargetMean)
    assert fitted.prior == 0.6
    made = fitted.apply(pa.table({"c": ["a", "b", None, "new"]}))
    assert made.column("c_mean").to_pylist() == pytest.approx([3.2 / 5, 1.2 / 3, 2.2 / 3, 0.6])
    assert made.column("c_mean_count").to_pylist() == [3, 1, 1, 0]


def test_without_prior_it_is_the_plain_mean() -> None:
    train = pa.table({"c": [1, 1, 2], "label": [0.25, 0.5, -3.0]})
    fitted = TargetMean(("c",), strength=0.0, output="m").fit(train)
    made = fitted.apply(pa.table({"c": [1, 2, 3]})).column("m").to_pylist()
    assert made == [0.375, -3.0, -0.75]


def test_a_cross_is_told_from_its_parts(rng: np.random.Generator) -> None:
    a, b = rng.integers(0, 3, 4000), rng.integers(0, 3, 4000)
    train = pa.table({"a": a, "b": b, "label": (a == b).astype(int)})
    made = TargetMean(("a", "b"), strength=1.0).fit(train).apply(train)
    np.testing.assert_allclose(made.column("a_x_b_mean").to_numpy(), a == b, atol=0.01)


@given(rows, st.integers(0, 39), st.integers(2, 4))
def test_no_row_of_a_fold_sees_a_label_of_it(
    drawn: list[tuple[str, int, int]], chosen: int, folds: int
) -> None:
    chosen %= len(drawn)
    transform = TargetMean(("city",), fold_by="user", folds=folds, with_count=True)
    city, user, label = drawn[chosen]
    other = [*drawn[:chosen], (city, user, 1 - label), *drawn[chosen + 1 :]]
    before, after = (
        next(fit_transform_out_of_fold(transform, lambda r=r: [table(r)])[1])  # type: ignore[misc]
        for r in (drawn, other)
    )
    fold = transform.fold_of(table(drawn))
    same_fold = pa.array(fold == fold[chosen])
    outputs = list(transform.outputs)
    assert before.filter(same_fold).select(outputs) == after.filter(same_fold).select(outputs)


@given(rows, st.integers(2, 4))
def test_out_of_fold_is_fitting_on_the_other_folds(
    drawn: list[tuple[str, int, int]], folds: int
) -> None:
    transform = TargetMean(("city",), fold_by="user", folds=folds, with_count=True, output="m")
    whole = table(drawn)
    fold = transform.fold_of(whole)
    fitted, tables = fit_transform_out_of_fold(
        transform, lambda: [whole.slice(0, 5), whole.slice(5)]
    )
    assert fitted == transform.fit(whole)
    made = pa.concat_tables(tables)
    for f in set(fold.tolist()):
        others = whole.filter(pa.array(fold != f))
        mine = made.filter(pa.array(fold == f)).select(["m", "m_count"])
        if others.num_rows:
            expected = transform.fit(others).apply(whole.filter(pa.array(fold == f)))
            assert mine == expected.select(["m", "m_count"])
        else:
            assert set(mine.column("m").to_pylist()) == {0.0}


def test_plain_means_of_training_rows_do_leak(rng: np.random.Generator) -> None:
    """What the folds are for: with rare categories, the mean in sample tells a random label."""
    n = 4000
    train = pa.table(
        {"c": rng.integers(0, 2000, n), "user": np.arange(n), "label": rng.integers(0, 2, n)}
    )
    label = train.column("label").to_numpy()
    transform = TargetMean(("c",), strength=1.0, fold_by="user")
    fitted, tables = fit_transform_out_of_fold(transform, lambda: [train])
    inside = fitted.apply(train).column("c_mean").to_numpy()
    outside = next(tables).column("c_mean").to_numpy()
    assert np.corrcoef(inside, label)[0, 1] > 0.5
    assert abs(np.corrcoef(outside, label)[0, 1]) < 0.1


def test_folds_are_even(rng: np.random.Generator) -> None:
    transform = TargetMean(("c",), fold_by="user", folds=7)
    fold = transform.fold_of(pa.table({"user": np.arange(7000)}))
    assert np.abs(np.bincount(fold) - 1000).max() < 120


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ConfigError, match="fold_by"):
        fit_transform_out_of_fold(TargetMean(("city",)), lambda: [table([("a", 1, 1)])])
    with pytest.raises(DataError, match="'user' is missing"):
        TargetMean(("city",), fold_by="user").fit(table([("a", 1, 1)]).drop_columns(["user"]))
    with pytest.raises(DataError, match="numbers"):
        TargetMean(("user",), label="city").fit(table([("a", 1, 1)]))
    with pytest.raises(DataError, match="scale them"):
        TargetMean(("city",)).fit(table([("a", 1, 1e9)]))
    with pytest.raises(ConfigError, match="columns"):
        TargetMean(())
    with pytest.raises(ConfigError, match="folds"):
        TargetMean(("city",), folds=1)
    with pytest.raises(ConfigError, match="strength"):
        TargetMean(("city",), strength=-1.0)


def test_too_large_a_sum_is_told() -> None:
    transform = TargetMean(("city",))
    parts = [transform.accumulator(), transform.accumulator()]
    for part in parts:
        part.size = 1 << 61
        part.add(table([("a", 1, 1)]))
    with pytest.raises(DataError, match="sum up to more"):
        parts[0].merge(parts[1])


@pytest.mark.parametrize("columns", [("user",), ("city", "user")])
def test_a_fold_is_of_another_column_than_the_category(columns: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="fold_by must be none of the columns"):
        TargetMean(columns, fold_by="user")
