"""Run a search on Ray Tune: trials in worker processes, as many at a time as there are cores.

Knows nothing of what a trial does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from weiml.cluster import ray_running
from weiml.errors import ClusterError, WeimlError
from weiml.search.base import Evaluate, Objective, Progress, SearchConfig
from weiml.search.journal import Journal
from weiml.search.result import SearchResult, TrialRecord, TrialState
from weiml.search.searcher import FINAL, JournalSearcher
from weiml.search.space import Space

__all__ = ["search"]

# Read by Tune in this process, and by its trials: no tables and no per-trial log files (the journal
# has it all), no change of folder (relative paths keep their meaning).
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def search(
    objective: Evaluate, space: Space, config: SearchConfig, progress: Progress | None = None
) -> SearchResult:
    """Search `space` for the point at which `objective` is best.

    Started again with the same folder and name it goes on: finished trials are not run again,
    those that were cut short are. `objective` and what it holds travel to Ray workers by pickle.
    Uses the Ray it finds, else starts a local one and stops it at the end.

    Raises:
        ConfigError: the folder holds another search, or is in use.
        ClusterError: Ray has too few cores.
        WeimlError: no trial came to an end with a finite value.
        KeyboardInterrupt: Ctrl-C; trials that had ended are kept.
    """
    begin = time.perf_counter()
    about = objective.identity() if isinstance(objective, Objective) else None
    with _quiet(), Journal(config, space, about) as journal:
        before = journal.num_finished
        if before < config.trials:
            _run_trials(objective, journal, config, progress)
        elif progress is not None:
            progress(f"all {before} trials were done before", done=before, total=config.trials)
        return _result(journal, space, config, before, time.perf_counter() - begin)


def _run_trials(
    objective: Evaluate, journal: Journal, config: SearchConfig, progress: Progress | None
) -> None:
    done = journal.num_finished
    remaining = config.trials - done
    tell = _teller(journal, config, progress) if progress is not None else None
    with ray_running(), _signals_kept() as interrupted:
        at_a_time = min(remaining, _concurrency(config))
        if progress is not None:
            text = f"{done} trials done before, {remaining} to run, {at_a_time} at a time"
            progress(text, done=done, total=config.trials)
        tuner = tune.Tuner(
            tune.with_resources(_trainable(objective, config), {"cpu": config.cpus_per_trial}),
            tune_config=tune.TuneConfig(
                search_alg=JournalSearcher(journal, tell),
                scheduler=_scheduler(config),
                num_samples=remaining,
                # Without it Tune keeps a single trial waiting whatever the cores.
                max_concurrent_trials=at_a_time,
                # The next trial finds its process warm: importing torch takes seconds.
                reuse_actors=True,
                trial_dirname_creator=_trial_folder,
            ),
            run_config=tune.RunConfig(
                name=f"attempt-{int(time.time() * 1000)}",
                storage_path=str(config.home / "tune"),
                failure_config=tune.FailureConfig(max_failures=0),
                verbose=0,
            ),
        )
        tuner.fit()
        if interrupted():
            raise KeyboardInterrupt


def _trainable(objective: Evaluate, config: SearchConfig) -> Callable[[dict[str, Any]], None]:
    metric = config.metric

    def run_trial(point: dict[str, Any]) -> None:
        last = 0

        def report(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal last
            last = max(last, step)
            tune.report(_report(step, metrics, metric))

        try:
            final = _report(last + 1, objective(point["params"], report), metric)
        except Exception as error:
            # Without a step; ASHA insists on a value, and passes over what has no step.
            final = {"failed": f"{type(error).__name__}: {error}", "value": float("nan")}
        tune.report({**final, FINAL: True})

    # Tune keeps trainables in a registry by name, shared by all searches on a cluster.
    run_trial.__name__ = f"search-{config.name}-{os.getpid()}-{time.time_ns()}"
    return run_trial


def _trial_folder(trial: Any) -> str:
    return f"trial-{trial.config['number']}"


def _report(step: int, metrics: Mapping[str, float], metric: str) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in metrics.items()}
    return {"step": step, "value": numbers.get(metric, float("nan")), "metrics": numbers}


def _scheduler(config: SearchConfig) -> TrialScheduler | None:
    if config.asha is None:
        return None
    return ASHAScheduler(
        time_attr="step",
        metric="value",
        mode=config.mode,
        max_t=config.asha.max_steps + 1,  # the final report comes one step after the last
        grace_period=config.asha.grace_steps,
        reduction_factor=config.asha.reduction,
    )


def _concurrency(config: SearchConfig) -> int:
    total = ray.cluster_resources().get("CPU", 0.0)
    if total < config.cpus_per_trial:
        raise ClusterError(
            f"a trial needs cpus_per_trial = {config.cpus_per_trial} cores, but Ray has {total:g}: "
            "lower it, or start Ray with more"
        )
    # All cores, not those free just now: a trial that finds none waits, and what others hold at
    # this moment may be given back in the next.
    return min(int(total // config.cpus_per_trial), config.concurrency or config.trials)


def _teller(
    journal: Journal, config: SearchConfig, progress: Progress
) -> Callable[[TrialRecord], None]:
    def tell(record: TrialRecord) -> None:
        best = journal.best()
        line = f"trial {record.number}: {_outcome(record, config.metric)}, {record.seconds:.1f} s"
        if best is not None:
            line += f"; best {best.value:.5f} in trial {best.number}"
        progress(line, done=journal.num_finished, total=config.trials)

    return tell


def _outcome(record: TrialRecord, metric: str) -> str:
    params = ", ".join(f"{name}={_short(value)}" for name, value in record.params.items())
    if record.state is TrialState.FAILED:
        return f"failed ({record.reason}) with {params}"
    stopped = f" (stopped at step {max(record.steps)})" if record.state is TrialState.PRUNED else ""
    return f"{metric} {record.value:.5f}{stopped} with {params}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _result(
    journal: Journal, space: Space, config: SearchConfig, before: int, seconds: float
) -> SearchResult:
    records = journal.records()
    best = journal.best()
    if best is None:
        reason = next((r.reason for r in reversed(records) if r.reason), "all were stopped early")
        raise WeimlError(
            f"none of the {len(records)} trials of search {config.name!r} came to an end with a "
            f"finite {config.metric}; the last: {reason}. The journal is in {config.home}: delete "
            "it, or give the search another name, once the cause is gone"
        )
    return SearchResult(
        name=config.name,
        metric=config.metric,
        mode=config.mode,
        best=best,
        trials=records,
        importance=journal.importance(),
        space=space.to_mapping(),
        num_new=len(records) - before,
        seconds=seconds,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Tune and Optuna say nothing but errors; the environment is put back at the end."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    logger, optuna_level = logging.getLogger("ray.tune"), optuna.logging.get_verbosity()
    level = logger.level
    os.environ.update(_ENVIRONMENT)
    logger.setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        optuna.logging.set_verbosity(optuna_level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signals_kept() -> Iterator[Callable[[], bool]]:
    """Put back the signal handlers that Tune replaces, and tell whether Ctrl-C came.

    Tune ends an interrupted search as if it were done, having put the former handler back; after
    an uninterrupted one its handler stays and swallows the next Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield lambda: signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
