"""Every model passes the one suite, and the suite catches a model that breaks a promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.features import Batch
from weiml.models import MODELS, LogisticRegression, LogisticRegressionConfig, model_config
from weiml.models.checks import CHECKS, check_model, example_batch

IMAGES = {"height": 8, "width": 6, "channels": 2, "classes": ["a", "b", "c"], "lr": 0.01}
# Small forms of the models; what is left out has its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {**IMAGES, "widths": [4, 8], "kernel": 3, "hidden": [16], "shift": 1, "flip": True},
    "dnn": {"hidden": [16, 8], "lr": 0.01},
    "dpn": {
        **IMAGES,
        **{"stem_width": 8, "blocks": [1, 1], "residual_width": 8, "increments": [2, 4]},
        **{"group_width": 8, "groups": 2},
    },
    "lr": {},
    "resnet": {**IMAGES, "stem_width": 4, "blocks": [1, 1], "dropout": 0.1},
    "wide_deep": {"hidden": [16, 8], "lr": 0.01},
}


def test_every_model_is_checked() -> None:
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("check", sorted(CHECKS))
@pytest.mark.parametrize("name", sorted(SMALL))
def test_model(name: str, check: str) -> None:
    CHECKS[check](model_config({"name": name, **SMALL[name]}))


class Forgetful(LogisticRegression):
    """Scores that depend on who else is in the batch."""

    def scores(self, batch: Batch, rows: Any) -> np.ndarray:
        scores = super().scores(batch, rows)
        return np.asarray(scores * scores.mean())


def test_a_model_that_breaks_its_contract_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "lr", Forgetful)
    with pytest.raises(AssertionError, match="'scores_do_not_depend_on_the_batch'"):
        check_model(LogisticRegressionConfig())


def test_the_examples_have_what_models_read() -> None:
    batch = example_batch(300, values=True)
    batch.validate()
    lengths = np.diff(batch.offsets).reshape(300, 4)
    assert lengths.min(0).tolist() == [1, 1, 0, 0]
    assert lengths.max(0).tolist() == [1, 1, 3, 5]
    assert (batch.labels[:, 1] <= batch.labels[:, 0]).all()
