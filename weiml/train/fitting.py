"""Training by any recipe: networks and linear models, boosted trees, batch solvers.

It is what the command line and flows run. What happens is told in words, through a `Teller`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from weiml.data import BatchDataset
from weiml.errors import ConfigError
from weiml.models.trees import GBDTConfig, GBDTProgress, GBDTTrainer
from weiml.models.trees.checkpoints import TreeCheckpoints
from weiml.ps import ParameterServer
from weiml.train.config import TrainConfig
from weiml.train.evaluate import evaluate_model
from weiml.train.recipes import TREES, Recipe
from weiml.train.solvers import BatchSolver, Iteration, SolverConfig
from weiml.train.telling import Teller, TellingCallback, told_at_start
from weiml.train.trainer import Trainer

__all__ = ["Trained", "train_recipe"]


class _Save(Protocol):
    def __call__(self, folder: Path) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a recipe."""

    model: str
    unit: str
    """What `history` has an entry of: "epoch", "round" or "iteration"."""
    best: int
    """The one that was kept, from 1; of solvers the last, which may be the start, 0."""
    history: list[dict[str, Any]]
    stopped: str
    """Why it ended before its last epoch, round or iteration; "" if it did not."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """See `TrainResult.curve`."""
    _save: _Save = field(repr=False)

    @property
    def best_entry(self) -> dict[str, Any]:
        """Of `history`."""
        return next(entry for entry in self.history if entry[self.unit] == self.best)

    def save(self, folder: str | Path) -> str:
        """Save the model to a new folder, whole or not at all; return its version.

        Raises:
            DataError: the folder is not empty.
        """
        return self._save(Path(folder))


def train_recipe(
    recipe: Recipe,
    train: BatchDataset,
    validation: BatchDataset | None = None,
    *,
    tell: Teller,
    server: ParameterServer | None = None,
    checkpoints: str | Path | None = None,
    trace: str | Path | None = None,
) -> Trained:
    """Train by a recipe; see `Trainer`, `GBDTTrainer` and `BatchSolver` for the errors.

    Args:
        recipe: of `load_recipe`.
        train: the training set.
        validation: decides what is kept; solvers are only measured by it.
        tell: told of what happens.
        server: a parameter server for a `TrainConfig`; by default the run makes its own.
        checkpoints: folder to keep checkpoints in, and to go on from, of this run alone.
        trace: file for the stages of all steps, of a `TrainConfig` only.
    """
    if isinstance(recipe, TrainConfig):
        return _train(recipe, train, validation, tell, server, checkpoints, trace)
    if trace is not None:
        raise ConfigError(
            f"trace = {str(trace)!r}: boosted trees and batch solvers have no steps to trace; "
            "leave it out"
        )
    if isinstance(recipe, GBDTConfig):
        return _grow(recipe, train, validation, tell, checkpoints)
    return _solve(recipe, train, validation, tell, checkpoints)


def _train(
    config: TrainConfig,
    train: BatchDataset,
    validation: BatchDataset | None,
    tell: Teller,
    server: ParameterServer | None,
    checkpoints: str | Path | None,
    trace: str | Path | None,
) -> Trained:
    tell.note(told_at_start(config, train))
    result = Trainer(config, server=server).fit(
        train,
        validation,
        callbacks=[TellingCallback(config, tell)],
        checkpoints=checkpoints,
        trace=trace,
    )
    if result.stopped:
        tell.note(f"stopped early: {result.stopped}")
    return Trained(
        model=config.model_config.name,
        unit="epoch",
        best=result.best_epoch,
        history=result.history,
        stopped=result.stopped,
        curve=result.curve,
        _save=lambda folder: result.save(folder).version,
    )


def _grow(
    config: GBDTConfig,
    train: BatchDataset,
    validation: BatchDataset | None,
    tell: Teller,
    checkpoints: str | Path | None,
) -> Trained:
    tell.note(f"{TREES}: up to {config.rounds:,} rounds on {train.num_examples:,} examples")
    if checkpoints is not None:
        _tell_of_tree_checkpoints(config, Path(checkpoints), tell)

    def show(at: GBDTProgress) -> None:
        text = f"round {at.round}/{at.rounds}  {at.rounds_per_second:.1f} rounds/s"
        if at.best_round:
            text += f"  validation auc {at.auc:.4f}, log_loss {at.log_loss:.4f}"
        tell.progress(text, at.round, at.rounds)
        tell.note(text, routine=True)

    result = GBDTTrainer(config).fit(train, validation, progress=show, checkpoints=checkpoints)
    stopped = ""
    if len(result.history) < config.rounds:
        stopped = (
            f"validation {config.early_stopping_metric} was no better than in round "
            f"{result.best_round} for early_stopping_rounds = {config.early_stopping_rounds}"
            if validation is not None and config.early_stopping_rounds
            else "no tree brings a gain any more"
        )
        tell.note(f"stopped early: {stopped}")

    def save(folder: Path) -> str:
        result.model.save(folder)
        return result.model.version

    return Trained(
        model=TREES,
        unit="round",
        best=result.best_round,
        history=list(result.history),
        stopped=stopped,
        _save=save,
    )


def _tell_of_tree_checkpoints(config: GBDTConfig, folder: Path, tell: Teller) -> None:
    done = TreeCheckpoints(folder, config).done
    if done:
        tell.note(f"resuming behind round {done} from {folder}")
    elif not config.checkpoint_rounds:
        tell.note(
            "no checkpoints are made: model.checkpoint_rounds = 0 (they are part of a recipe)"
        )


def _solve(
    config: SolverConfig,
    train: BatchDataset,
    validation: BatchDataset | None,
    tell: Teller,
    checkpoints: str | Path | None,
) -> Trained:
    method = "OWL-QN" if config.l1 else "L-BFGS"
    tell.note(f"lr by {method}: {config.loss} loss of {train.num_examples:,} examples")
    progress = _solver_progress(config, tell, checkpoints)
    result = BatchSolver(config).fit(train, progress=progress, state_folder=checkpoints)
    tell.note(f"ended: {result.reason.value}")
    history = [dict(iteration._asdict()) for iteration in result.iterations]
    if validation is not None:
        metrics, _ = evaluate_model(result.predictor(), validation)
        history[-1] |= {f"validation_{name}": value for name, value in metrics.items()}
    return Trained(
        model="lr",
        unit="iteration",
        best=result.iterations[-1].iteration,
        history=history,
        stopped=result.reason.value if result.reason.converged else "",
        _save=lambda folder: result.save(folder).version,
    )


def _solver_progress(
    config: SolverConfig, tell: Teller, checkpoints: str | Path | None
) -> Callable[[Iteration], None]:
    most, begun = config.stop.max_iterations, False

    def show(at: Iteration) -> None:
        nonlocal begun
        if not begun and at.iteration:
            tell.note(f"resuming behind iteration {at.iteration - 1} from {checkpoints}")
        begun = True
        text = (
            f"iteration {at.iteration}/{most}  objective {at.objective:.6g}  gradient "
            f"{at.gradient_norm:.3g}  {at.non_zeros:,} weights"
        )
        tell.progress(text, at.iteration, most)
        if at.iteration % config.save_every == 0:
            tell.note(text, routine=True)

    return show
