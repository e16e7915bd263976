"""The loop of both methods: direction, line search, history, when to stop.

All vectors are on the parameter server; what is here are scalars, so that a state is saved as the
server's checkpoint and one small record (`Standing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from weiml.errors import DataError, SolverError
from weiml.train.solvers.config import SolverConfig
from weiml.train.solvers.methods import Lbfgs, Method, OwlQn, Taken
from weiml.train.solvers.objective import Loss, Penalised, Value
from weiml.train.solvers.two_loops import History
from weiml.train.solvers.vectors import SolverVectors

__all__ = ["Iteration", "Minimiser", "Standing", "StopReason"]

_PROMISE = 1e-10  # of the objective: a decrease that float32 weights need not show
_MOVE = 2.0**-20  # of the largest weight: a move of a few float32 steps
_CURVATURE = 1e-12  # s · y over y · y: below, a pair tells nothing of the curvature


class StopReason(Enum):
    """Why a solver stopped."""

    GRADIENT = "the gradient is within its tolerance"
    OBJECTIVE = "the objective no longer falls by more than its tolerance"
    PRECISION = "no step that float32 weights can make brings a decrease"
    ITERATIONS = "the iterations were used up"

    @property
    def converged(self) -> bool:
        """Whether an optimum was reached."""
        return self is not StopReason.ITERATIONS


class Iteration(NamedTuple):
    """How far a run is, after each iteration."""

    iteration: int
    """From 1; 0 is the start."""
    objective: float
    gradient_norm: float
    """Of the pseudo-gradient, for OWL-QN."""
    step: float
    """The length that was accepted, in directions; 0 where the history was dropped instead."""
    evaluations: int
    """Of the objective, since the start."""
    non_zeros: int
    """Weights that are not 0."""


@dataclass(kw_only=True)
class Standing:
    """The scalars of a run, all that is not in vectors; plain numbers, fit for JSON."""

    iteration: int = 0
    smooth: float = math.nan
    total: float = math.nan
    gradient_norm: float = math.nan
    first_norm: float = math.nan
    step: float = 0.0
    evaluations: int = 0
    pairs: list[int] = field(default_factory=list)
    """The slots of the history in use, oldest first."""
    recent: list[float] = field(default_factory=list)
    """The last objectives."""


class Minimiser:
    """Minimises a loss with penalties from the vector ``w`` on, by OWL-QN if `l1` is above 0.

    Args:
        vectors: on the server; with `standing` they hold what was saved with it.
        loss: the smooth part without penalties.
        config: of the penalties, the history, the searches and the stop.
        standing: where to go on from.
    """

    def __init__(
        self,
        vectors: SolverVectors,
        loss: Loss,
        config: SolverConfig,
        standing: Standing | None = None,
    ) -> None:
        self.standing = standing or Standing()
        self._vectors = vectors
        self._config = config
        vectors.create("scales")
        self._objective = Penalised(vectors, loss, l1=config.l1, l2=config.l2)
        self._objective.evaluations = self.standing.evaluations
        method = OwlQn if config.l1 > 0 else Lbfgs
        self._method: Method = method(vectors, self._objective, config.search)
        self._history = History(vectors, config.history, self.standing.pairs)

    def run(self, after: Callable[[Iteration], None] | None = None) -> StopReason:
        """Iterate until there is a reason to stop; `after` is called after each iteration.

        Raises:
            DataError: the objective or its gradient is not finite where it starts.
            SolverError: a line search failed far from an optimum.
        """
        if math.isnan(self.standing.total):
            self._start()
            if after is not None:
                after(self.told())
        while True:
            reason = self._reason() or self._iterate()
            if reason is not None:
                return reason
            if after is not None:
                after(self.told())

    def told(self) -> Iteration:
        """Return how far the run is."""
        at = self.standing
        non_zeros = self._vectors.count_non_zeros("w")
        return Iteration(
            at.iteration, at.total, at.gradient_norm, at.step, at.evaluations, non_zeros
        )

    def _start(self) -> None:
        value = self._objective.evaluate("w", "gradient")
        self._arrive(value, 0.0)
        at = self.standing
        if not (math.isfinite(at.total) and math.isfinite(at.gradient_norm)):
            raise DataError(
                f"the objective where the solver starts is {at.total} and its gradient's norm "
                f"{at.gradient_norm}: labels, weights or values of the examples are not finite, or "
                f"so large that float32 does not hold their sums; scale the dense columns"
            )
        at.first_norm = at.gradient_norm

    def _arrive(self, value: Value, step: float) -> None:
        """Take the scalars of a new point, whose weights and gradient are in place."""
        self._method.arrive()
        at = self.standing
        at.smooth, at.total, at.step = value.smooth, value.total, step
        at.gradient_norm = self._vectors.norm(self._method.steepest)
        at.evaluations = self._objective.evaluations
        at.recent = [*at.recent, value.total][-(self._config.stop.objective_window + 1) :]

    def _reason(self) -> StopReason | None:
        at, stop = self.standing, self._config.stop
        if at.gradient_norm <= stop.gradient_tolerance * at.first_norm:
            return StopReason.GRADIENT
        if len(at.recent) > stop.objective_window and stop.objective_tolerance:
            decrease = (at.recent[0] - at.recent[-1]) / stop.objective_window
            if decrease <= stop.objective_tolerance * abs(at.total):
                return StopReason.OBJECTIVE
        return StopReason.ITERATIONS if at.iteration >= stop.max_iterations else None

    def _iterate(self) -> StopReason | None:
        """Take one step, or drop the history where it leads nowhere."""
        self._history.direction(self._method.steepest, "direction")
        taken = self._search()
        if taken is None and self._is_at_the_end():
            return StopReason.PRECISION
        if taken is None and not len(self._history):
            raise SolverError(self._failure())
        at = self.standing
        at.iteration += 1
        if taken is None:
            self._history.clear()
            self._arrive(Value(at.smooth, at.total), 0.0)
            # An iteration that only drops the history is no sign of an optimum.
            at.recent = at.recent[-1:]
        else:
            self._move(taken)
        at.pairs = list(self._history.order)
        return None

    def _search(self) -> Taken | None:
        at = self.standing
        # Without a history the direction has the gradient's length, which says nothing.
        first = 1.0 if len(self._history) else min(1.0, 1.0 / at.gradient_norm)
        return self._method.search(Value(at.smooth, at.total), first)

    def _move(self, taken: Taken) -> None:
        """Go to the trial point; keep the pair of changes if it tells a curvature."""
        vectors = self._vectors
        s, y = self._history.spare()
        vectors.combine([1.0, -1.0], ["trial", "w"], s)
        vectors.combine([1.0, -1.0], ["trial_gradient", "gradient"], y)
        vectors.copy("trial", "w")
        vectors.copy("trial_gradient", "gradient")
        s_y, y_y = vectors.products([y], [s, y])[0].tolist()
        if s_y > _CURVATURE * y_y:
            self._history.keep()
        self._arrive(taken.value, taken.point.step)

    def _is_at_the_end(self) -> bool:
        """Whether the direction promises no more than float32 weights can show."""
        if not len(self._history):
            return False  # the direction's length says nothing
        promise = -self._method.slope() / 2
        if 0 < promise <= _PROMISE * abs(self.standing.total):
            return True
        return self._vectors.largest("direction") <= _MOVE * self._vectors.largest("w")

    def _failure(self) -> str:
        at, search = self.standing, self._config.search
        return (
            f"the line search of iteration {at.iteration + 1} found no step in "
            f"search.max_evaluations = {search.max_evaluations} evaluations along the steepest "
            f"descent (objective {at.total:.9g}, gradient norm "
            f"{at.gradient_norm:.3g}, {at.gradient_norm / at.first_norm:.1e} of the first): the "
            f"loss and its gradient do not go together, or the columns' scales differ so much that "
            f"float32 does not hold the steps; scale the dense columns, raise l2 = "
            f"{self._config.l2:g}, or stop earlier by stop.gradient_tolerance"
        )
