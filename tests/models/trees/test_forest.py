"""The compiled walk gives LightGBM's scores and leaves to the bit."""

from __future__ import annotations

from dataclasses import replace

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.models.trees import Forest, TreeText

NAN = float("nan")


def grown(seed: int, **knobs: object) -> lightgbm.Booster:
    """Grow trees on two numbers, one of them mostly zero, and two categorical columns."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((600, 4))
    x[:, 1] *= rng.random(600) < 0.3
    x[:, 2] = rng.integers(0, 3, 600)
    x[:, 3] = rng.integers(0, 90, 600)
    logit = x[:, 0] * (x[:, 2] - 1) + np.sin(x[:, 3]) + x[:, 1]
    x[rng.random(x.shape) < 0.15] = np.nan
    label = (rng.random(600) < 1 / (1 + np.exp(-2 * logit))).astype(int)
    data = lightgbm.Dataset(x, label=label, categorical_feature=[2, 3])
    few = {"min_data_in_leaf": 5, "min_data_per_group": 5, "num_leaves": 9, "num_threads": 1}
    params = {"objective": "binary", "verbosity": -1, **few, **knobs}
    return lightgbm.train(params, data, 8)


BOOSTERS = {
    "plain": grown(0),
    "zero_as_missing": grown(1, zero_as_missing=True),
    "use_missing": grown(2, use_missing=False),
    "stumps": grown(3, min_data_in_leaf=250),
}
NUMBERS = st.floats(-3, 3) | st.sampled_from([NAN, 0.0, 1e-36, -1e-36, 1e300])
CODES = st.integers(-2, 120).map(float) | st.sampled_from([NAN, 1e12, 2.7])


@settings(max_examples=150)
@given(
    kind=st.sampled_from(sorted(BOOSTERS)),
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, CODES, CODES), min_size=1, max_size=8),
)
def test_scores_and_leaves_are_lightgbms(kind: str, rows: list[tuple[float, ...]]) -> None:
    x, booster = np.array(rows), BOOSTERS[kind]
    forest = Forest.from_text(TreeText.parse(booster.model_to_string()))
    scores = np.zeros(len(x))
    forest.add_scores(x, scores)
    np.testing.assert_array_equal(scores, booster.predict(x, raw_score=True))
    np.testing.assert_array_equal(forest.leaf_indices(x), booster.predict(x, pred_leaf=True))


@pytest.mark.parametrize("kind", ["gain", "split"])
def test_importance_is_lightgbms(kind: str) -> None:
    booster = BOOSTERS["plain"]
    forest = Forest.from_text(TreeText.parse(booster.model_to_string()))
    expected = booster.feature_importance(kind)
    np.testing.assert_allclose(forest.importance(kind), expected, rtol=1e-4)


HEAD = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1"
TREE = """num_leaves=3
num_cat=0
split_feature=0 1
split_gain=4 2
threshold=0.5 -1
decision_type=2 2
left_child=-1 -2
right_child=1 -3
leaf_value=0.25 -1 2
is_linear=0"""
LONE = "num_leaves=1\nnum_cat=0\nsplit_feature=\nleaf_value=10\nis_linear=0"


def test_known_leaves() -> None:
    forest = Forest.from_text(TreeText(HEAD, (TREE, LONE, TREE)))
    x = np.array([[0.5, 0], [0.6, -1], [0.6, 0]])
    assert forest.leaf_indices(x).tolist() == [[0, 0, 0], [1, 0, 1], [2, 0, 2]]
    scores = np.ones(3)
    forest.add_scores(x, scores)
    assert scores.tolist() == [11.5, 9, 15]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("left_child=-1 -2", "left_child=-1 0", "nowhere"),
        ("right_child=1 -3", "right_child=2 -3", "nowhere"),
        ("right_child=1 -3", "right_child=1 -4", "nowhere"),
        ("split_feature=0 1", "split_feature=0 2", "nowhere"),
        ("decision_type=2 2", "decision_type=2 1", "nowhere"),
        ("leaf_value=0.25 -1 2", "leaf_value=0.25 -1", "leaf_value has 2"),
        ("threshold=0.5 -1", "threshold=0.5 much", "damaged"),
        ("num_leaves=3\n", "", "num_leaves"),
        ("is_linear=0", "is_linear=1", "linear"),
    ],
)
def test_damaged_trees_are_errors_not_crashes(old: str, new: str, what: str) -> None:
    assert old in TREE
    with pytest.raises(DataError, match=what):
        Forest.from_text(TreeText(HEAD, (TREE.replace(old, new),)))


def test_a_matrix_of_other_columns_is_refused() -> None:
    forest = Forest.from_text(TreeText(HEAD, (TREE,)))
    with pytest.raises(DataError, match="2 columns"):
        forest.leaf_indices(np.zeros((3, 3)))
    with pytest.raises(DataError, match="nowhere"):
        replace(forest, num_columns=1)
