"""The two methods: what L-BFGS and OWL-QN do differently in one iteration.

Each knows its vectors and one line search; the order of things is `weiml.train.solvers.minimise`'s.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from weiml.train.solvers.config import SearchConfig
from weiml.train.solvers.line_search import Point, backtrack, strong_wolfe
from weiml.train.solvers.objective import Penalised, Value
from weiml.train.solvers.vectors import SolverVectors

__all__ = ["Lbfgs", "Method", "OwlQn", "Taken"]


class Taken(NamedTuple):
    """An accepted step: its point lies in the vectors ``trial`` and ``trial_gradient``."""

    point: Point
    value: Value


class Method(ABC):
    """One method, with its vectors: w, gradient, direction, trial and trial_gradient."""

    steepest: str
    """The vector whose negative is the steepest descent."""

    def __init__(self, vectors: SolverVectors, objective: Penalised, search: SearchConfig) -> None:
        self.vectors = vectors
        self.objective = objective
        self.search_config = search
        vectors.create("w", "gradient", "direction", "trial", "trial_gradient")

    @abstractmethod
    def arrive(self) -> None:
        """Prepare what follows from w and its gradient."""

    def slope(self) -> float:
        """Return the derivative of the objective along the direction, at w."""
        return self.vectors.dot(self.steepest, "direction")

    @abstractmethod
    def search(self, value: Value, first: float) -> Taken | None:
        """Search along the direction, from the step `first` on; None if no step will do."""


class Lbfgs(Method):
    """Limited-memory BFGS with steps that satisfy the strong Wolfe conditions.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
    """

    steepest = "gradient"

    def arrive(self) -> None:
        """Nothing follows: the gradient is the steepest descent."""

    def search(self, value: Value, first: float) -> Taken | None:
        """See `Method.search`."""
        slope = self.slope()
        if not slope < 0:
            return None
        last = value

        def along(step: float) -> Point:
            nonlocal last
            self.vectors.combine([1.0, step], ["w", "direction"], "trial")
            last = self.objective.evaluate("trial", "trial_gradient")
            inner = self.vectors.dot("trial_gradient", "direction")
            return Point(step, last.total, inner)

        start = Point(0.0, value.total, slope)
        point = strong_wolfe(along, start, first, self.search_config)
        return None if point is None else Taken(point, last)


class OwlQn(Method):
    """Orthant-wise limited-memory quasi-Newton for objectives with an L1 penalty.

    Andrew and Gao, "Scalable training of L1-regularized log-linear models", ICML 2007: the
    pseudo-gradient in the gradient's stead, and steps that end where a weight would change its
    sign. Their direction leaves out all components that climb along the pseudo-gradient, which
    bends it away from Newton's. Here only those of weights that are 0 are left out at first, by
    the projection of the step; all of them where no such step brings a decrease.
    """

    steepest = "pseudo"

    def __init__(self, vectors: SolverVectors, objective: Penalised, search: SearchConfig) -> None:
        super().__init__(vectors, objective, search)
        vectors.create("pseudo", "orthant", "change")

    def arrive(self) -> None:
        """See `Method.arrive`."""
        self.vectors.pseudo_gradient("w", "gradient", self.objective.l1, "pseudo", "scales")

    def search(self, value: Value, first: float) -> Taken | None:
        """See `Method.search`."""
        self.vectors.orthant("w", "pseudo", "orthant")
        taken = self._backtrack(value, first)
        if taken is None:
            self.vectors.project("direction", "pseudo", "direction", -1.0, "scales")
            taken = self._backtrack(value, first)
        return taken

    def _backtrack(self, value: Value, first: float) -> Taken | None:
        vectors, last = self.vectors, value

        def along(step: float) -> Point:
            nonlocal last
            vectors.combine([1.0, step], ["w", "direction"], "trial")
            vectors.project("trial", "orthant", "trial", 1.0, "scales")
            vectors.combine([1.0, -1.0], ["trial", "w"], "change")
            promise = vectors.dot("pseudo", "change")
            if not promise < 0:
                return Point(step, math.inf, promise)
            last = self.objective.evaluate("trial", "trial_gradient")
            return Point(step, last.total, promise)

        point = backtrack(along, Point(0.0, value.total, 0.0), first, self.search_config)
        return None if point is None else Taken(point, last)
