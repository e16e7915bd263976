"""Readers of what other parts write: metrics, scores, histories, trials, feeds, replays.

A file that is there but damaged is an error; one that is not there is the caller's to explain.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weiml.errors import DataError
from weiml.report.data import Curves, Evaluation, Feed, LearningCurve, RankedItem
from weiml.search import SearchResult

__all__ = [
    "read_evaluations",
    "read_examples",
    "read_feeds",
    "read_json",
    "read_learning",
    "read_search",
]

_USER_FACTS = ("age", "gender", "occupation")
_COUNTS = {"seen": "items_before", "candidates": "candidates"}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or holds anything else.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path} must hold a JSON object, got {type(tree).__name__}")
    return tree


def read_learning(folder: Path, name: str) -> LearningCurve:
    """Read history.json: history, curve and best_epoch."""
    tree = read_json(folder / "history.json")
    best = tree.get("best_epoch")
    return LearningCurve(
        name=name,
        epochs=tuple(_rows(tree, "history", folder)),
        steps=tuple(_rows(tree, "curve", folder)) if "curve" in tree else (),
        best_epoch=None if best is None else int(best),
    )


def read_evaluations(folder: Path, name: str) -> list[Evaluation]:
    """Read metrics.json and scores.parquet: one model, or baselines by name.

    Raises:
        DataError: one of them is damaged or they do not fit each other.
    """
    tree = read_json(folder / "metrics.json")
    metrics = tree.get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        raise DataError(f"{folder / 'metrics.json'} has no table of metrics")
    scores = (
        _read_table(folder / "scores.parquet") if (folder / "scores.parquet").exists() else None
    )
    if "model" in tree:
        curves = None if scores is None else _curves(scores, "score", folder)
        return [Evaluation(name=name, kind="model", metrics=metrics, curves=curves)]
    return [
        Evaluation(
            name=baseline.replace("_", " "),
            kind="baseline",
            metrics=values,
            curves=None if scores is None else _curves(scores, baseline, folder),
        )
        for baseline, values in metrics.items()
    ]


def read_search(folder: Path) -> dict[str, Any]:
    """Read trials.json."""
    return SearchResult.load(folder).to_mapping()


def read_examples(path: Path) -> pa.Table:
    """Read examples.parquet, or the folder that holds it: only what a report needs."""
    file = path / "examples.parquet" if path.is_dir() else path
    table = _read_table(file)
    wanted = ("user_id", "item_id", "genres", "split", *_USER_FACTS)
    return table.select([name for name in wanted if name in table.column_names])


def read_feeds(
    folder: Path, examples: pa.Table | None = None, view: Path | None = None
) -> tuple[Feed, ...]:
    """Read feeds.json; users' facts and genres come from the examples and the feature view.

    Args:
        folder: holds feeds.json.
        examples: all events, with user facts and genres; what a user met before the test period.
        view: the feature view's folder, for the genres of items that nobody has met.

    Raises:
        DataError: feeds.json is not of the form that ``serve.rank`` writes.
    """
    tree = read_json(folder / "feeds.json")
    genres = _item_genres(examples, view)
    try:
        return tuple(
            _feed(feed, str(tree.get("model_version", "")), examples, genres)
            for feed in tree["feeds"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / 'feeds.json'} is not a list of ranked feeds: {error!r}"
        ) from None


def _feed(
    tree: Mapping[str, Any],
    version: str,
    examples: pa.Table | None,
    genres: Mapping[Any, tuple[str, ...]],
) -> Feed:
    user: dict[str, Any] = {"user_id": tree["user_id"]}
    seen: dict[str, int] = {}
    if examples is not None:
        events = examples.filter(pc.equal(examples["user_id"], tree["user_id"]))
        user |= _facts(events)
        seen = _seen(events)
    user |= {title: tree[name] for name, title in _COUNTS.items() if name in tree}
    items = tuple(
        RankedItem(
            title=str(item.get("title") or item["item_id"]),
            score=float(item["score"]),
            item_id=str(item["item_id"]),
            rating=None if item.get("rating") is None else float(item["rating"]),
            genres=tuple(item.get("genres") or genres.get(item["item_id"], ())),
        )
        for item in tree["items"]
    )
    return Feed(user=user, items=items, seen_genres=seen, version=version)


def _facts(events: pa.Table) -> dict[str, Any]:
    if not events.num_rows:
        return {}
    last = events.slice(events.num_rows - 1).to_pylist()[0]
    return {name: last[name] for name in _USER_FACTS if last.get(name) is not None}


def _seen(events: pa.Table) -> dict[str, int]:
    """How often each genre came before the test period, most often first."""
    if "genres" not in events.column_names:
        return {}
    if "split" in events.column_names:
        events = events.filter(pc.not_equal(events["split"], "test"))
    counts = Counter(pc.list_flatten(events["genres"]).to_pylist())
    return dict(counts.most_common())


def _item_genres(examples: pa.Table | None, view: Path | None) -> dict[Any, tuple[str, ...]]:
    if view is not None and (view / "items.parquet").exists():
        table = _read_table(view / "items.parquet")
    elif examples is not None:
        table = examples
    else:
        return {}
    if not {"item_id", "genres"} <= set(table.column_names):
        return {}
    pairs = zip(table["item_id"].to_pylist(), table["genres"].to_pylist(), strict=True)
    return {item: tuple(genres or ()) for item, genres in pairs}


def _curves(scores: pa.Table, column: str, folder: Path) -> Curves | None:
    """ROC and calibration of a column; None where labels hold one class only."""
    missing = [name for name in ("label", column) if name not in scores.column_names]
    if missing:
        raise DataError(f"{folder / 'scores.parquet'} has no column {missing[0]!r}")
    labels = scores["label"].to_numpy().astype(np.float64)
    if len(np.unique(labels)) < 2:
        return None
    return Curves.of(labels, scores[column].to_numpy().astype(np.float64))


def _rows(tree: Mapping[str, Any], key: str, folder: Path) -> list[dict[str, Any]]:
    rows = tree.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{folder / 'history.json'}: {key} must be a list of tables")
    return rows


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None
