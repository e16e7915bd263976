"""Leaves against scikit-learn's own, and what they are worth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import AdaBoostLeaves, GBDTLeaves, RandomForestLeaves, Transform
from weiml.features.transforms.leaves import FittedLeaves


def gbdt(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    model = GradientBoostingClassifier(n_estimators=8, max_depth=3, random_state=7).fit(x, y)
    return np.asarray(model.apply(rows)).reshape(len(rows), -1)


def ada(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    stump = DecisionTreeClassifier(max_depth=3)
    model = AdaBoostClassifier(stump, n_estimators=8, random_state=7).fit(x, y)
    return np.column_stack([tree.apply(rows) for tree in model.estimators_])


def forest(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    model = RandomForestClassifier(n_estimators=8, max_depth=3, random_state=7)
    return np.asarray(model.fit(x, y, sample_weight=np.ones(len(y))).apply(rows))


COLUMNS = ("a", "b")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("transform", "reference"),
    [
        (GBDTLeaves(COLUMNS, trees=8), gbdt),
        (AdaBoostLeaves(COLUMNS, trees=8), ada),
        (RandomForestLeaves(COLUMNS, trees=8), forest),
    ],
    ids=["gbdt", "ada", "forest"],
)
def test_leaves_are_scikit_learns(
    transform: Transform, reference: object, classes: int, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(600, 2)).astype(np.float32)
    noise = rng.normal(0, 0.5, 600)
    y = np.digitize(x[:, 0] * x[:, 1] + noise, [0.0, 0.8][: classes - 1])
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "label": y})
    fitted = transform.fit(table)
    assert isinstance(fitted, FittedLeaves)
    made = np.array(fitted.apply(table).column("leaves").to_pylist())
    # The reservoir hands its examples over in the order of their hashes.
    seen = transform.accumulator()
    seen.add(table)
    sample = seen.reservoir  # type: ignore[attr-defined]
    by_key = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    rows = sample.numbers.astype(np.float32)
    labels = np.array([by_key[row.tobytes()] for row in rows])
    expected = reference(rows, labels, x)  # type: ignore[operator]
    np.testing.assert_array_equal(made - fitted.roots, expected)
    assert np.unique(made).size == sum(np.unique(column).size for column in made.T)


def test_missing_numbers_count_as_the_median(rng: np.random.Generator) -> None:
    x = rng.normal(5.0, 1.0, 501)
    table = pa.table({"a": x, "b": x, "label": (x > 4.5).astype(int)})
    fitted = GBDTLeaves(COLUMNS, trees=3).fit(table)
    gaps = fitted.apply(pa.table({"a": [None, np.median(x), np.inf], "b": [np.nan] * 3}))
    leaves = gaps.column("leaves").to_pylist()
    assert leaves[0] == leaves[1] == leaves[2]


def test_numbers_beyond_float32_fall_to_the_end() -> None:
    table = pa.table({"a": [-1e300, 1e300] * 50, "b": [0.0] * 100, "label": [0, 1] * 50})
    leaves = GBDTLeaves(COLUMNS, trees=1).fit(table).apply(table).column("leaves").to_pylist()
    assert leaves[0] != leaves[1]


def test_a_repeated_example_weighs_more() -> None:
    rows = [(0.0, 0)] * 9 + [(0.0, 1)] + [(1.0, 1)] * 9 + [(1.0, 0)]
    table = pa.table({"a": [r[0] for r in rows], "label": [r[1] for r in rows]})
    fitted = GBDTLeaves(("a",), trees=1).fit(table)
    assert isinstance(fitted, FittedLeaves)
    assert fitted.threshold.max() == 0.5
    border = fitted.apply(pa.table({"a": [0.0, 0.5, 1.0]})).column("leaves").to_pylist()
    assert border[0] == border[1] != border[2]


@pytest.mark.parametrize("kind", [GBDTLeaves, AdaBoostLeaves, RandomForestLeaves])
def test_one_class_is_not_enough(kind: type[GBDTLeaves]) -> None:
    with pytest.raises(DataError, match="two classes"):
        kind(("a",)).fit(pa.table({"a": [1.0, 2.0], "label": [1, None]}))


def test_wrong_options_are_told() -> None:
    with pytest.raises(ConfigError, match="columns"):
        GBDTLeaves(())
    with pytest.raises(ConfigError, match="columns"):
        GBDTLeaves("a")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="depth"):
        GBDTLeaves(("a",), depth=0)
