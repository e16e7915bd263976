"""The text of trees: taken apart and joined, LightGBM reads it like its own."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from weiml.errors import DataError
from weiml.models.trees import TreeText


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    data = lightgbm.Dataset(x, label=(x[:, 0] * x[:, 1] > 0).astype(int))
    return lightgbm.train({"objective": "binary", "num_leaves": 5, "verbosity": -1}, data, 12)


X = np.random.default_rng(1).standard_normal((50, 3))


def raw(text: TreeText) -> np.ndarray:
    return np.asarray(lightgbm.Booster(model_str=str(text)).predict(X, raw_score=True))


def test_reading_and_writing_again_changes_nothing(booster: lightgbm.Booster) -> None:
    text = TreeText.parse(booster.model_to_string())
    assert len(text) == 12
    assert TreeText.parse(str(text)) == text
    np.testing.assert_array_equal(raw(text), booster.predict(X, raw_score=True))


def test_first_and_then_cut_and_join(booster: lightgbm.Booster) -> None:
    text = TreeText.parse(booster.model_to_string())
    np.testing.assert_array_equal(
        raw(text.first(5)), booster.predict(X, raw_score=True, num_iteration=5)
    )
    np.testing.assert_allclose(raw(text.then(text)), 2 * raw(text), rtol=1e-12)


@pytest.mark.parametrize("cut", [0, 3, 60, 700])
def test_what_is_cut_short_is_an_error(booster: lightgbm.Booster, cut: int) -> None:
    with pytest.raises(DataError, match="cut short"):
        TreeText.parse(booster.model_to_string()[:cut])
