from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.errors import DataError
from weiml.report import ReportData
from weiml.report.gather import gather
from weiml.search import SearchResult, TrialRecord, TrialState


def write(folder: Path, name: str, tree: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(tree))
    return folder


@pytest.fixture
def outputs(tmp_path: Path, rng: np.random.Generator, data: ReportData) -> dict[str, Path]:
    """Folders as the steps of a feed flow write them."""
    history = {
        "model": "lr",
        "version": "1.2",
        "best_epoch": 1,
        "history": [{"epoch": 1, "train_loss": 0.6, "validation_auc": 0.7}],
        "curve": [{"epoch": 1, "step": 5, "examples": 500, "loss": 0.61}],
    }
    labels = rng.integers(0, 2, 500).astype(np.float32)
    scores = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.1 * rng.normal(size=500), 0, 1)
    evaluation = write(
        tmp_path / "evaluation", "metrics.json", {"model": "lr", "metrics": {"auc": 0.75}}
    )
    pq.write_table(pa.table({"score": scores, "label": labels}), evaluation / "scores.parquet")
    metrics = {"item_popularity": {"auc": 0.7}, "user_item_mean": {"auc": 0.6}}
    baselines = write(tmp_path / "baselines", "metrics.json", {"metrics": metrics})
    pq.write_table(
        pa.table({"item_popularity": scores, "user_item_mean": 1 - scores, "label": labels}),
        baselines / "scores.parquet",
    )
    best = TrialRecord(number=0, state=TrialState.COMPLETE, params={"a": 1}, value=0.5)
    found = SearchResult(
        name="s",
        metric="log_loss",
        mode="min",
        best=best,
        trials=(best,),
        importance={},
        space={"a": {"type": "int", "low": 0, "high": 2}},
        num_new=1,
        seconds=1.0,
    )
    found.save(tmp_path / "search")
    items = [{"item_id": 5, "title": "Five", "score": 0.9, "rating": 4.0}]
    items += [{"item_id": 9, "title": "Nine", "score": 0.8, "rating": None}]
    feed = {"user_id": 1, "candidates": 20, "seen": 3, "items": items}
    feeds = write(tmp_path / "feeds", "feeds.json", {"model_version": "1.2", "feeds": [feed]})
    examples = pa.table(
        {
            "user_id": [1, 1, 2, 1],
            "item_id": [5, 6, 5, 6],
            "age": [30, 31, 40, 31],
            "genres": [["Drama"], ["Drama", "War"], ["Drama"], ["Horror"]],
            "split": ["train", "train", "train", "test"],
        }
    )
    (tmp_path / "examples").mkdir()
    pq.write_table(examples, tmp_path / "examples" / "examples.parquet")
    view = write(tmp_path / "view", "history.json", {"threshold": 4.0})
    profiles = pa.table({"item_id": [5, 9], "genres": [["Drama"], ["Musical"]]})
    pq.write_table(profiles, view / "items.parquet")
    chosen = write(tmp_path / "best", "history.json", history)
    candidates = [{"model": "lr", "metrics": {"log_loss": 0.6}, "version": "1.2"}]
    candidates += [{"model": "wide_deep", "metrics": {"log_loss": 0.5}, "version": "1.2"}]
    selection = {"metric": "log_loss", "selected": "1.2", "candidates": candidates}
    write(chosen, "selection.json", selection)
    version = {"name": "feed", "version": "3", "alias": "champion"}
    return {
        "lr.model": write(tmp_path / "lr", "history.json", history),
        "evaluation.lr": evaluation,
        "evaluation.baselines": baselines,
        "evaluation.best": chosen,
        "search.result": tmp_path / "search",
        "serving.feeds": feeds,
        "serving.replay": write(tmp_path / "replay", "replay.json", data.replay),
        "registry.version": write(tmp_path / "version", "version.json", version),
        "features.examples": tmp_path / "examples",
        "features.view": view,
    }


def test_knows_outputs_by_their_files(outputs: dict[str, Path], data: ReportData) -> None:
    made = gather(outputs, title="t")
    assert [curve.name for curve in made.learning] == ["lr"]
    assert made.learning[0].best_epoch == 1
    assert made.learning[0].steps[0]["loss"] == 0.61
    assert [(e.name, e.kind, e.metrics["auc"]) for e in made.evaluations] == [
        ("lr", "model", 0.75),
        ("item popularity", "baseline", 0.7),
        ("user item mean", "baseline", 0.6),
    ]
    lr, _, reverse = (e.curves for e in made.evaluations)
    assert lr is not None
    assert reverse is not None
    assert np.trapezoid(lr.true_positive_rate, lr.false_positive_rate) > 0.8
    assert np.trapezoid(reverse.true_positive_rate, reverse.false_positive_rate) < 0.2
    assert made.search["best"]["value"] == 0.5
    assert made.replay == data.replay
    assert made.facts["Model"]["served"] == "wide_deep"
    assert made.facts["Model"]["registered as"] == "feed version 3"
    assert made.facts["Machine"]["cores"] >= 1
    assert made.facts["Versions"]["numpy"] == np.__version__


def test_feeds_get_facts_and_genres(outputs: dict[str, Path]) -> None:
    (feed,) = gather(outputs).feeds
    assert feed.user == {"user_id": 1, "age": 31, "items_before": 3, "candidates": 20}
    assert feed.seen_genres == {"Drama": 2, "War": 1}, "nothing of the test period"
    assert [(i.title, i.genres, i.rating) for i in feed.items] == [
        ("Five", ("Drama",), 4.0),
        ("Nine", ("Musical",), None),
    ]
    assert feed.version == "1.2"
    bare = gather({"serving.feeds": outputs["serving.feeds"]}).feeds[0]
    assert (bare.seen_genres, bare.items[0].genres) == ({}, ())


def test_what_is_not_given_has_a_reason(outputs: dict[str, Path]) -> None:
    made = gather({"a.model": outputs["lr.model"]})
    assert (made.evaluations, made.search, made.feeds, made.replay) == ((), {}, (), {})
    assert made.missing["search"] == "no trials.json is among the report's dependencies"
    assert "learning" not in made.missing
    assert [curve.name for curve in made.learning] == ["a"]


@pytest.mark.parametrize(
    ("output", "name", "text", "message"),
    [
        ("lr.model", "history.json", "{", r"history\.json cannot be read as JSON"),
        ("lr.model", "history.json", '{"history": [1]}', "must be a list of tables"),
        ("evaluation.lr", "metrics.json", '{"model": "lr"}', "has no table of metrics"),
        ("evaluation.lr", "scores.parquet", "x", r"scores\.parquet cannot be read as Parquet"),
        ("search.result", "trials.json", "{}", "not the result of a search"),
        ("serving.feeds", "feeds.json", '{"feeds": [{}]}', "not a list of ranked feeds"),
        ("serving.replay", "replay.json", "[]", "must hold a JSON object"),
    ],
)
def test_damaged_files_are_named(
    outputs: dict[str, Path], output: str, name: str, text: str, message: str
) -> None:
    (outputs[output] / name).write_text(text)
    with pytest.raises(DataError, match=message):
        gather(outputs)


def test_one_class_has_no_curves(outputs: dict[str, Path]) -> None:
    table = pa.table({"score": [0.1, 0.2], "label": [1.0, 1.0]})
    pq.write_table(table, outputs["evaluation.lr"] / "scores.parquet")
    assert gather(outputs).evaluations[0].curves is None
