"""The step class ``search.run``: a search as a node of a flow, on the engine ``tune``."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import weiml
from weiml.data.datasets.registry import default_cache_dir
from weiml.flow import StepContext, step
from weiml.flow.manifest import digest_path
from weiml.flow.source import package_digest
from weiml.search.base import Objective, SearchConfig
from weiml.search.engine import TuneSession
from weiml.search.plan import SearchPlan, load_plan
from weiml.search.result import SearchResult

__all__ = ["search_run"]


@step("search.run")
def search_run(
    context: StepContext,
    train: Path,
    validation: Path,
    *,
    config: Path,
    train_config: Path | None = None,
    train_fraction: float | None = None,
    trials: int | None = None,
    folder: str | None = None,
) -> None:
    """Search on a training and a validation set; writes best.json, trials.json and journal.log.

    A run that was stopped goes on with its finished trials, also in another run of the flow, as
    long as data, code, space and options are the same. Once the step is done, so is the search:
    the journal moves to the output.

    Args:
        context: of an output step in a node on the engine ``tune``.
        train: folder of the training set.
        validation: folder of the set that the metric is taken on.
        config: the search, a file as in configs/search.
        train_config: a file of TrainConfig that trials start from; default the search's own.
        train_fraction: share of the training set used; default that of the file.
        trials: how many trials; default that of the file.
        folder: where the journal is kept while the search runs; default ``searches`` in
            $WEIML_HOME.

    Raises:
        ConfigError: something in the files does not fit.
        WeimlError: no trial came to an end.
    """
    from weiml.search.run import search

    plan = load_plan(config)
    objective = plan.make_objective(
        train=train, validation=validation, config=train_config, train_fraction=train_fraction
    )
    session = context.session
    knobs = {"trials": trials, "seed": context.seed}
    if isinstance(session, TuneSession):
        knobs["concurrency"] = session.concurrency
    data = [digest_path(train), digest_path(validation)]
    run = plan.make_config(
        folder=folder or default_cache_dir() / "searches",
        name=f"{context.flow.name}-{context.node.id}-{_identity(plan, objective, data, context)}",
        **knobs,
    )
    result = search(objective, plan.parameters, run, context.progress)
    result.save(context.output_dir, objective.configuration(result.best_params))
    _move_journal(run, context.output_dir)
    _report(context, result)


def _identity(plan: SearchPlan, objective: Objective, data: list[str], context: StepContext) -> str:
    """Short digest of all that the value of a trial depends on, but its parameters."""
    options = {k: v for k, v in vars(objective).items() if k not in ("train", "validation")}
    about: dict[str, Any] = {
        "objective": plan.objective,
        "options": options,
        "space": plan.parameters.to_mapping(),
        "search": {k: v for k, v in plan.search.items() if k not in ("trials", "concurrency")},
        "seed": context.seed,
        "data": data,
        "code": package_digest(Path(weiml.__file__).parent),
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _move_journal(config: SearchConfig, output: Path) -> None:
    shutil.copyfile(config.home / "journal.log", output / "journal.log")
    shutil.rmtree(config.home, ignore_errors=True)


def _report(context: StepContext, result: SearchResult) -> None:
    states = Counter(trial.state.value for trial in result.trials)
    context.report("metric", result.metric)
    context.report("best_value", result.best_value)
    context.report("best_params", result.best_params)
    context.report("best_metrics", dict(result.best.metrics))
    context.report("trials", dict(states))
    context.report("new_trials", result.num_new)
    context.report("search_seconds", round(result.seconds, 3))
