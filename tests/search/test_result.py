from __future__ import annotations

import json
from pathlib import Path

import pytest

from weiml.errors import DataError
from weiml.search import SearchResult, TrialRecord, TrialState


def result() -> SearchResult:
    best = TrialRecord(
        number=0,
        state=TrialState.COMPLETE,
        params={"a.lr": 0.1, "a.hidden": [2, 1]},
        value=0.5,
        metrics={"log_loss": 0.5, "auc": 0.7},
        steps={1: 0.6, 2: 0.5},
        seconds=1.5,
    )
    failed = TrialRecord(number=1, state=TrialState.FAILED, params={"a.lr": 0.2}, reason="nan")
    return SearchResult(
        name="s",
        metric="log_loss",
        mode="min",
        best=best,
        trials=(best, failed),
        importance={"a.lr": 1.0},
        space={"a.lr": {"type": "float", "low": 0.0, "high": 1.0}},
        num_new=2,
        seconds=3.0,
    )


def test_round_trip(tmp_path: Path) -> None:
    result().save(tmp_path / "new")
    assert SearchResult.load(tmp_path / "new") == result()
    best = json.loads((tmp_path / "new" / "best.json").read_text())
    assert best["params"] == {"a.lr": 0.1, "a.hidden": [2, 1]}
    assert (best["value"], best["metrics"]["auc"], best["number"]) == (0.5, 0.7, 0)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "best.json",
        "trials.json",
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"trials": 3}', '{"best": {}, "trials": []}'])
def test_refuses_other_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "trials.json").write_text(text)
    with pytest.raises(DataError, match=r"trials\.json is not the result of a search"):
        SearchResult.load(tmp_path)
