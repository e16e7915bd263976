from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import auc as area

from weiml.errors import DataError
from weiml.report import Curves, Evaluation, ReportData


def test_round_trip(tmp_path: Path, data: ReportData) -> None:
    data.save(tmp_path / "numbers.json")
    assert ReportData.load(tmp_path / "numbers.json", flow_svg=data.flow_svg) == data
    assert "<svg" not in (tmp_path / "numbers.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a report's numbers"),
        ("[]", "does not hold a table but list"),
        ('{"titel": "x"}', "did you mean 'title'"),
        ('{"feeds": [{"user": {}, "items": [{"title": "x"}]}]}', "missing key 'score'"),
        (
            '{"evaluations": [{"name": "a", "kind": "modell", "metrics": {}}]}',
            "did you mean 'model'",
        ),
    ],
)
def test_refuses_other_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "numbers.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        ReportData.load(path)


def test_what_is_not_finite_is_refused(tmp_path: Path, data: ReportData) -> None:
    broken = Evaluation(name="a", metrics={"auc": float("nan")})
    with pytest.raises(DataError, match="do not fit into JSON"):
        dataclasses.replace(data, evaluations=(broken,)).save(tmp_path / "numbers.json")
    assert list(tmp_path.iterdir()) == []


def test_thinned_curves_keep_the_area(rng: np.random.Generator) -> None:
    logits = rng.normal(size=20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    scores = 1 / (1 + np.exp(-logits))
    curves = Curves.of(labels, scores)
    assert len(curves.false_positive_rate) <= 200
    assert (curves.false_positive_rate[0], curves.true_positive_rate[0]) == (0.0, 0.0)
    assert (curves.false_positive_rate[-1], curves.true_positive_rate[-1]) == (1.0, 1.0)
    order = np.argsort(-scores, kind="stable")
    positives = np.r_[0, np.cumsum(labels[order])] / labels.sum()
    negatives = np.r_[0, np.cumsum(1 - labels[order])] / (1 - labels).sum()
    thinned = area(curves.false_positive_rate, curves.true_positive_rate)
    assert thinned == pytest.approx(area(negatives, positives), abs=1e-3)
    assert np.abs(np.subtract(curves.predicted, curves.observed)).max() < 0.05
    assert sum(curves.weight) == 20_000


def test_json_has_plain_types_only(data: ReportData) -> None:
    def check(value: Any) -> None:
        assert isinstance(value, (dict, list, str, int, float, bool, type(None))), value
        for item in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        ):
            check(item)

    check(data.to_mapping())
    json.dumps(data.to_mapping(), allow_nan=False)
