"""``weiml evaluate``: what a model does on a data set, with how far each number may be off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weiml.cli.console import JsonOption, speaking, table

if TYPE_CHECKING:
    from weiml.train import Evaluation

__all__ = ["evaluate"]

_SE = "_se"
_GROUPS = {
    "over all pairs": ("auc", "auc_bound"),
    "within groups": ("gauc", "mrr", "ndcg_at_", "precision_at_"),
    "loss": ("log_loss", "normalized_entropy", "relative_cross_entropy", "recalibrated_ne"),
    "calibration": ("calibration", "expected_calibration_error"),
}
"""Headings, and how the names of their metrics begin."""
_OTHERS = "data"


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, of trees too.")],
    dataset: Annotated[Path, typer.Argument(help="A data set folder, such as runs/features/test.")],
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write each example's score and label as Parquet."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Score a data set with a model: ranking, loss and calibration, ± one standard error.

    A model of several tasks gets a column for each.

    Example: weiml evaluate models/lr runs/features/test --scores runs/scores.parquet
    """
    with speaking(json) as console:
        from weiml.data import BatchDataset
        from weiml.models import load_scorer
        from weiml.train import evaluate_tasks_of

        scorer = load_scorer(model)
        data = BatchDataset.open(dataset)
        found = evaluate_tasks_of(scorer, data)
        if scores is not None:
            _write_scores(found, scores)
        payload = {
            "model": model,
            "version": scorer.version,
            "dataset": dataset,
            "examples": data.num_examples,
            "metrics": found.metrics,
        }
        if len(found.tasks) > 1:
            payload["tasks"] = found.by_task
        console.result(payload, _text(found))


def _write_scores(found: Evaluation, path: Path) -> None:
    import pyarrow.parquet as pq

    from weiml.files import written_aside

    with written_aside(path) as aside:
        pq.write_table(found.table(), aside)


def _text(found: Evaluation) -> str:
    names = [name for name in found.by_task[found.tasks[0]] if not name.endswith(_SE)]
    rows: list[tuple[str, ...]] = []
    for group in (*_GROUPS, _OTHERS):
        rows += [
            (group, name, *(_number(found.by_task[task], name) for task in found.tasks))
            for name in names
            if _group_of(name) == group
        ]
    heads = ["VALUE"] if len(found.tasks) == 1 else [task.upper() for task in found.tasks]
    shown = [
        ("" if i and rows[i - 1][0] == row[0] else row[0], *row[1:]) for i, row in enumerate(rows)
    ]
    return table(["", "METRIC", *heads], shown)


def _group_of(name: str) -> str:
    for group, beginnings in _GROUPS.items():
        if any(name == b or (name.startswith(b) and b != "auc") for b in beginnings):
            return group
    return _OTHERS


def _number(metrics: dict[str, float], name: str) -> str:
    if name not in metrics:
        return "-"
    value = metrics[name]
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
    error = metrics.get(f"{name}{_SE}")
    return text if error is None else f"{text} ± {error:.4f}"
