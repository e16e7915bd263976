"""Step classes for training and evaluation: ``train.*``, on any engine; Keras's on ``tensorflow``.

They live here because a step knows of the flow, which weiml.train must not.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weiml.config import parse_overrides
from weiml.data import BatchDataset
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.flow.context import StepContext, plain_value
from weiml.flow.steps import step
from weiml.models import (
    Baseline,
    DenseLogit,
    ItemPopularity,
    ModelFolder,
    UserItemMean,
    evaluate_scores,
    load_scorer,
)
from weiml.ps import ParameterServer
from weiml.train import (
    Recipe,
    TrainConfig,
    evaluate_model,
    evaluate_tasks_of,
    load_recipe,
    read_recipe,
    train_recipe,
)
from weiml.train.plans import DataConfig, Plan, run_plan

__all__ = [
    "train_baselines",
    "train_evaluate",
    "train_fit",
    "train_plan",
    "train_select",
]


@step("train.fit")
def train_fit(
    context: StepContext,
    train: Path,
    validation: Path | None = None,
    search: Path | None = None,
    *,
    config: Path | None = None,
    overrides: tuple[str, ...] = (),
) -> None:
    """Train a model and write its folder, with ``history.json`` beside the model's own files.

    What was interrupted goes on from its last checkpoint when the same node runs again.

    Args:
        context: of an output step. On the engine ``ps`` a configuration with transport "ray" gets
            the node's parameter server.
        train: folder of a data set.
        validation: folder of another, for early stopping.
        search: folder that ``search.run`` wrote; its winner takes the place of `config`.
        config: TOML, see `weiml.train.load_recipe`; by default a `weiml.train.TrainConfig`'s own
            values.
        overrides: ``a.b=value``, on top of the file or the winner.

    Raises:
        ConfigError: the configuration does not fit, or both `search` and `config` are given.
    """
    recipe = _recipe(search, config, overrides)
    result = train_recipe(
        recipe,
        BatchDataset.open(train),
        None if validation is None else BatchDataset.open(validation),
        tell=_Tell(context),
        server=_server(context, recipe),
        checkpoints=None if context.work_dir is None else context.work_dir / "checkpoints",
    )
    version = result.save(context.output_dir)
    _write_json(
        context.output_dir / "history.json",
        {
            "model": result.model,
            "version": version,
            f"best_{result.unit}": result.best,
            "stopped": result.stopped or None,
            "history": result.history,
            "curve": result.curve,
        },
    )
    context.report("model", result.model)
    context.report("version", version)
    context.report(f"best_{result.unit}", result.best)
    if result.stopped:
        context.report("stopped", result.stopped)
    for name in ("train_loss", "validation_auc", "validation_log_loss", "examples_per_second"):
        if name in result.best_entry:
            context.report(name, result.best_entry[name])


@step("train.plan")
def train_plan(
    context: StepContext,
    train: Path | None = None,
    calibration: Path | None = None,
    test: Path | None = None,
    validation: Path | None = None,
    *,
    plan: Path,
    overrides: tuple[str, ...] = (),
    stages: str = "",
) -> None:
    """Run a plan and write its calibrated model, with ``plan.json`` (stages, test) beside it.

    Args:
        context: of an output step.
        train: folder of examples, or of a data set of batches; with it, what the node depends on
            takes the place of the files in the plan's ``[data]``. Without, the node's cache does
            not see the plan's files: set ``cache="false"``, the stages have a cache of their own.
        calibration: folder of others, that the calibration is fitted on.
        test: folder of others, to judge the model by.
        validation: folder of others, for early stopping.
        plan: TOML of `weiml.train.plans.Plan`.
        overrides: ``section.knob=value``, on top of the file.
        stages: folder where stages are kept from run to run, so that a broken run goes on; by
            default they are gone with the attempt. Not a Path: what is in it is no input.

    Raises:
        ConfigError: the plan does not fit.
    """
    whole = Plan.from_toml(plan, overrides)
    given = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    if train is not None:
        whole = _with_data(whole, {part: str(path) for part, path in given.items() if path})
    folder = Path(stages) if stages else context.scratch_dir / "stages"
    result = run_plan(whole, folder, progress=context.progress)
    shutil.copytree(result.model, context.output_dir, dirs_exist_ok=True)
    _write_json(context.output_dir / "plan.json", result.to_mapping())
    context.report("version", ModelFolder.open(context.output_dir).version)
    context.report("ran", result.ran)
    context.report("before", {name: result.before.get(name) for name in result.metrics})
    context.report("after", {name: result.after.get(name) for name in result.metrics})


def _with_data(plan: Plan, parts: dict[str, str]) -> Plan:
    """Return the plan over other files; over batches, it has no features."""
    config = plan.data
    data = DataConfig(
        train=parts["train"],
        validation=parts.get("validation", ()),
        calibration=parts.get("calibration", ()),
        test=parts.get("test", ()),
        format=config.format,
        keep_negatives=config.keep_negatives,
        seed=config.seed,
        engine=config.engine,
        identify=config.identify,
    )
    batches = (Path(parts["train"]) / "dataset.json").exists()
    features = None if batches else plan.features
    return replace(plan, data=data, features=features)


def _server(context: StepContext, recipe: Recipe) -> ParameterServer | None:
    """Return the node's parameter server, where there is one and the recipe trains on Ray."""
    if not isinstance(recipe, TrainConfig) or recipe.transport != "ray":
        return None
    if not hasattr(context.session, "parameter_server"):
        return None
    server: ParameterServer = context.session.parameter_server(
        num_shards=recipe.num_shards,
        num_workers=recipe.num_workers,
        staleness=recipe.staleness_bound,
    )
    return server


class _Tell:
    """Tells a run's progress to a flow, and the rest to the step's log."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def progress(self, text: str, done: float, total: float) -> None:
        """See `weiml.train.Teller`."""
        self._context.progress(text, done, total)

    def note(self, text: str, *, routine: bool = False) -> None:
        """See `weiml.train.Teller`."""
        self._context.log.log(logging.DEBUG if routine else logging.INFO, text)


def _recipe(search: Path | None, config: Path | None, overrides: tuple[str, ...]) -> Recipe:
    if search is not None and config is not None:
        raise ConfigError(
            f"train.fit takes the configuration of a search ({search}) or of a file ({config}), "
            "not both: leave one out"
        )
    if config is not None:
        return load_recipe(config, overrides)
    if search is None:
        return read_recipe(parse_overrides(overrides), where="train.fit")
    best = search / "best.json"
    try:
        winner = json.loads(best.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{best} does not hold the winner of a search: {error!r}") from None
    return read_recipe(winner, overrides=overrides, where=str(best))


@step("train.evaluate")
def train_evaluate(context: StepContext, model: Path, data: Path) -> None:
    """Score a data set: ``metrics.json`` and ``scores.parquet`` (score, label, group, item, time).

    Of a model of several tasks, each has columns of its own too: see `weiml.train.Evaluation`.

    Args:
        context: of an output step.
        model: folder of a saved model, of boosted trees too.
        data: folder of a data set.
    """
    scorer = load_scorer(model)
    found = evaluate_tasks_of(scorer, BatchDataset.open(data))
    about = {"model": scorer.name, "version": scorer.version, "metrics": found.metrics}
    _write_scores(context, found.table(), about)


@step("train.baselines")
def train_baselines(
    context: StepContext,
    train: Path,
    data: Path,
    *,
    user_column: str = "user_mean",
    item_column: str = "item_mean",
    item_rate_column: str = "item_rate",
) -> None:
    """Fit the baselines and score a data set: ``metrics.json`` by name, ``scores.parquet``.

    item_popularity and user_item_mean are frozen after training. Where the data have the named
    history columns, their progressive forms, which see the columns as of each event, come along.

    Args:
        context: of an output step.
        train: folder of the data set to fit on.
        data: folder of the data set to score.
        user_column: dense column of the user's mean so far.
        item_column: dense column of the item's mean so far.
        item_rate_column: dense column of the item's share of positives so far.
    """
    fitted_on, scored = BatchDataset.open(train).read(), BatchDataset.open(data).read()
    baselines: dict[str, Baseline] = {
        "item_popularity": ItemPopularity(),
        "user_item_mean": UserItemMean(),
    }
    if item_rate_column in fitted_on.dense_names:
        baselines["item_popularity_progressive"] = DenseLogit(item_rate_column)
    if {user_column, item_column} <= set(fitted_on.dense_names):
        baselines["user_item_mean_progressive"] = DenseLogit(user_column, item_column)
    scores = {name: b.fit(fitted_on).score(scored) for name, b in baselines.items()}
    metrics = {
        name: evaluate_scores(scored.labels, values, scored.groups, scored.weights)
        for name, values in scores.items()
    }
    _write_evaluation(context, scored, scores, {"metrics": metrics})


@step("train.select")
def train_select(
    context: StepContext,
    data: Path,
    *models: Path,
    metric: Literal["log_loss", "auc", "gauc", "ndcg_at_10"] = "log_loss",
) -> None:
    """Copy the model that scores a data set best, with ``selection.json`` beside it.

    Args:
        context: of an output step.
        data: folder of a data set that no model was trained on: validation, not test.
        models: folders of saved models, at least one.
        metric: what decides; log_loss is better when lower.
    """
    if not models:
        raise DataError("train.select needs at least one model among its dependencies")
    dataset = BatchDataset.open(data)
    table: list[dict[str, Any]] = []
    for folder in models:
        context.progress(f"scoring {folder.name}", len(table), len(models))
        scorer = load_scorer(folder)
        metrics, _ = evaluate_model(scorer, dataset)
        table.append({"model": scorer.name, "version": scorer.version, "metrics": metrics})
    values = np.array([entry["metrics"].get(metric, np.nan) for entry in table])
    if np.isnan(values).all():
        raise DataError(
            f"{data} has no {metric}, so no model is better than another: metrics of groups need "
            "groups, an AUC both classes; choose another `metric`"
        )
    best = int(np.nanargmin(values) if metric == "log_loss" else np.nanargmax(values))
    shutil.copytree(models[best], context.output_dir, dirs_exist_ok=True)
    load_scorer(context.output_dir)
    _write_json(
        context.output_dir / "selection.json",
        {"metric": metric, "selected": table[best]["version"], "candidates": table},
    )
    context.report("selected", table[best]["model"])
    context.report("version", table[best]["version"])


def _write_evaluation(
    context: StepContext, batch: Batch, scores: dict[str, np.ndarray], about: dict[str, Any]
) -> None:
    columns = {name: pa.array(values) for name, values in scores.items()}
    columns |= {
        "label": pa.array(np.array(batch.labels[:, 0])),
        "group": pa.array(batch.groups),
        "item": pa.array(batch.items),
        "time": pa.array(batch.times),
    }
    _write_scores(context, pa.table(columns), about)


def _write_scores(context: StepContext, scores: pa.Table, about: dict[str, Any]) -> None:
    pq.write_table(scores, context.output_dir / "scores.parquet")
    _write_json(context.output_dir / "metrics.json", about)
    context.report(context.step.name, about["metrics"])


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(plain_value(value), indent=1) + "\n", encoding="utf-8")
