"""The memory of a search: an Optuna study in an append-only file, spoken to by ask and tell.

What is in the file is what happened: a search that is started again reads it and goes on. Knows
nothing of Ray or of what a trial does.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial
from optuna.trial import TrialState as State

from weiml.errors import ConfigError
from weiml.search.base import SearchConfig
from weiml.search.result import TrialRecord, TrialState
from weiml.search.space import Choice, Float, Parameter, Space

__all__ = ["Journal"]

_FIXED = "fixed_params"  # where Optuna keeps what a trial was queued with
_STATES = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAIL: TrialState.FAILED,
}


class Journal:
    """The trials of one search, on disk after each call; a context manager that holds its lock.

    Opening it again after a crash tells the trials that were left running as failed, puts their
    parameters at the head of the queue, and goes on. The sampler is TPE (Bergstra et al., NeurIPS
    2011) in Optuna's present form: multivariate, and counting running trials as bad ones so that
    those running side by side spread out. Its seed comes from the search's seed and the number of
    draws so far, hence an interrupted search draws what an uninterrupted one would have drawn from
    the same results.

    Not for use by two threads. One process at a time may hold it.

    Raises:
        ConfigError: another process holds it, or it belongs to another objective, space, metric or
            seed.
    """

    def __init__(
        self, config: SearchConfig, space: Space, objective: Mapping[str, Any] | None = None
    ) -> None:
        self._config = config
        self._space = space
        self._objective = dict(objective or {})
        self._running: dict[int, Trial] = {}
        self._distributions = {
            name: _distribution(parameter) for name, parameter in space.parameters.items()
        }
        config.home.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(config.home)
        try:
            self._study = self._open(config.home / "journal.log")
            self._check_identity()
            self._repair()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock; trials still running stay so in the file. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Start a trial: its number and parameters."""
        self._study.sampler = self._sampler(self._num_drawn())
        trial = self._study.ask(self._distributions)
        self._running[trial.number] = trial
        return trial.number, self._decode(trial.params)

    def report(self, number: int, step: int, value: float) -> None:
        """Note an intermediate value; what is not finite, or a step seen before, is left out."""
        trial = self._running[number]
        seen = self._study.get_trials(deepcopy=False)[number].intermediate_values
        if math.isfinite(value) and step not in seen:
            trial.report(value, step)

    def complete(self, number: int, metrics: Mapping[str, float]) -> None:
        """End a trial with its metrics; it counts as failed unless the searched one is finite."""
        metric = self._config.metric
        if metric not in metrics:
            known = ", ".join(sorted(metrics)) or "nothing"
            self.fail(number, f"the objective returned {known}, but metric = {metric!r}")
        elif not math.isfinite(metrics[metric]):
            self.fail(number, f"{metric} is {metrics[metric]}")
        else:
            self._note(number, "metrics", _finite(metrics))
            self._study.tell(self._running.pop(number), float(metrics[metric]), State.COMPLETE)

    def prune(self, number: int, metrics: Mapping[str, float]) -> None:
        """End a trial that was stopped early; its value is the last one reported."""
        self._note(number, "metrics", _finite(metrics))
        self._study.tell(self._running.pop(number), state=State.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """End a trial without a value."""
        self._note(number, "reason", reason)
        self._study.tell(self._running.pop(number), state=State.FAIL)

    @property
    def num_finished(self) -> int:
        """Finished trials; those that a crash left behind do not count."""
        return len(self.records())

    def records(self) -> tuple[TrialRecord, ...]:
        """All finished trials by number, but those that a crash left behind."""
        orphans = set(self._orphans())
        return tuple(
            self._record(trial)
            for trial in self._frozen()
            if trial.state.is_finished() and trial.number not in orphans
        )

    def record(self, number: int) -> TrialRecord:
        """One finished trial."""
        return self._record(self._frozen()[number])

    def best(self) -> TrialRecord | None:
        """The best complete trial, the earliest among equals; None while there is none."""
        sign = 1.0 if self._config.mode == "min" else -1.0
        complete = [record for record in self.records() if record.state is TrialState.COMPLETE]
        return min(complete, key=lambda record: sign * (record.value or 0.0), default=None)

    def importance(self) -> dict[str, float]:
        """Each parameter's share in the metric's variation, greatest first, by PED-ANOVA.

        Watanabe et al., IJCAI 2023. Empty with fewer than 4 complete trials, or if all are equal.
        """
        values = [r.value for r in self.records() if r.state is TrialState.COMPLETE]
        if len(values) < 4 or len(set(values)) < 2:
            return {}
        shares = optuna.importance.get_param_importances(self._study)
        return {name: float(share) for name, share in shares.items()}

    def _open(self, path: Path) -> optuna.Study:
        _cut_torn_line(path)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Unlocked(str(path))))
        return optuna.create_study(
            storage=storage,
            study_name=self._config.name,
            direction="minimize" if self._config.mode == "min" else "maximize",
            load_if_exists=True,
        )

    def _check_identity(self) -> None:
        """A journal goes on only with the search that began it."""
        config = self._config
        own = {
            "objective": self._objective,
            "space": self._space.to_mapping(),
            "metric": config.metric,
            "mode": config.mode,
            "seed": config.seed,
        }
        known = self._study.user_attrs.get("weiml.search")
        if known is None:
            self._study.set_user_attr("weiml.search", _as_json(own))
            if self._space.defaults():
                self._enqueue(self._space.defaults(), {"default": True})
            return
        for knob, value in _as_json(own).items():
            if known[knob] != value:
                raise ConfigError(
                    f"the search in {config.home} was begun with {knob} = {known[knob]!r} and "
                    f"cannot go on with {value!r}: give the search another name, or delete "
                    "that folder"
                )

    def _repair(self) -> None:
        """Tell what a crash left running as failed, and queue its parameters again.

        A trial that was cut short while it was drawn is not queued: the next draw is the same.
        """
        orphans = [trial for trial in self._frozen() if trial.state is State.RUNNING]
        if not orphans:
            return
        numbers = sorted({*self._orphans(), *(trial.number for trial in orphans)})
        self._study.set_user_attr("orphans", numbers)
        for trial in orphans:
            self._study.tell(trial.number, state=State.FAIL)
            if self._is_whole(trial):
                self._study.enqueue_trial(_known(trial), user_attrs={"retry_of": trial.number})
            elif fixed := trial.system_attrs.get(_FIXED):
                self._study.enqueue_trial(fixed, user_attrs=trial.user_attrs)

    def _is_whole(self, trial: FrozenTrial) -> bool:
        """Whether each of a trial's parameters has its value."""
        return _known(trial).keys() == self._distributions.keys()

    def _num_drawn(self) -> int:
        """Trials that the sampler drew: not those queued again, nor those cut short meanwhile."""
        orphans = set(self._orphans())
        return sum(
            "retry_of" not in trial.user_attrs
            and (trial.number not in orphans or self._is_whole(trial))
            for trial in self._frozen()
        )

    def _enqueue(self, params: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        encoded = {name: self._encode(name, value) for name, value in params.items()}
        self._study.enqueue_trial(encoded, user_attrs=attributes)

    def _sampler(self, draw: int) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self._config.seed, draw]).generate_state(1)[0])
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._config.startup)

    def _orphans(self) -> list[int]:
        return list(self._study.user_attrs.get("orphans", []))

    def _frozen(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _note(self, number: int, name: str, value: Any) -> None:
        self._running[number].set_user_attr(name, value)

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        return TrialRecord(
            number=trial.number,
            state=_STATES[trial.state],
            params=self._decode(trial.params),
            value=trial.value,
            metrics=dict(trial.user_attrs.get("metrics", {})),
            steps=dict(sorted(trial.intermediate_values.items())),
            seconds=trial.duration.total_seconds() if trial.duration is not None else 0.0,
            reason=str(trial.user_attrs.get("reason", "")),
        )

    def _encode(self, name: str, value: Any) -> Any:
        parameter = self._space.parameters[name]
        return parameter.encode(value) if isinstance(parameter, Choice) else value

    def _decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        decoded = {}
        for name, parameter in self._space.parameters.items():
            if name in params:
                value = params[name]
                decoded[name] = parameter.decode(value) if isinstance(parameter, Choice) else value
        return decoded


class _Unlocked(JournalFileSymlinkLock):
    """No lock per write: the process holds the whole journal, and a kill leaves nothing behind.

    The backend's own lock files outlive a killed process and would hold up the next for 30 s.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _known(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters, also those it was queued with and has not taken over yet."""
    return {**trial.system_attrs.get(_FIXED, {}), **trial.params}


def _take_lock(home: Path) -> int:
    handle = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise ConfigError(
            f"the search in {home} is being run by process {owner}: wait for it, or give this "
            "search another name"
        ) from None
    os.truncate(handle, 0)
    os.write(handle, str(os.getpid()).encode("ascii"))
    return handle


def _cut_torn_line(path: Path) -> None:
    """Drop what a kill left of a half-written last line; Optuna would refuse the whole file."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Choice):
        return CategoricalDistribution([parameter.encode(value) for value in parameter.values])
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _as_json(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as they come back from the file."""
    return {name: _listed(value) for name, value in tree.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
