"""The two methods: what L-BFGS and OWL-QN do differently in one iteration.

Each knows its vectors and one line search; the order of things is `weiml.train.solvers.minimise`'s.
"""

from __future__ import annotations

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

    def arrive(self) -> None:
        """Prepare what follows from w and its gradient."""

    @abstractmethod
    def align(self) -> None:
        """Change the direction where the method must."""

    @abstractmethod
    def search(self, value: Value, slope: float, first: float) -> Taken | None:
        """Search along the direction, `slope` its derivative at w; None if no step will do."""


class Lbfgs(Method):
    """Limited-memory BFGS with steps that satisfy the strong Wolfe conditions.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
    """

    steepest = "gradient"

    def align(self) -> None:
        """Nothing."""

    def search(self, value: Value, slope: float, first: float) -> Taken | None:
        """See `Method.search`."""
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
    pseudo-gradient in the gradient's stead, a direction without the components that climb along it,
    and steps that end where a weight would change its sign.
    """

    steepest = "pseudo"

    def __init__(self, vectors: SolverVectors, objective: Penalised, search: SearchConfig) -> None:
        super().__init__(vectors, objective, search)
        vectors.create("pseudo", "orthant", "change")

    def arrive(self) -> None:
        """See `Method.arrive`."""
        self.vectors.pseudo_gradient("w", "gradient", self.objective.l1, "pseudo", "scales")

    def align(self) -> None:
        """See `Method.align`."""
        self.vectors.project("direction", "pseudo", "direction", -1.0, "scales")

    def search(self, value: Value, slope: float, first: float) -> Taken | None:
        """See `Method.search`."""
        last = value
        vectors = self.vectors
        vectors.orthant("w", "pseudo", "orthant")

        def along(step: float) -> Point:
            nonlocal last
            vectors.combine([1.0, step], ["w", "direction"], "trial")
            vectors.project("trial", "orthant", "trial", 1.0, "scales")
            vectors.combine([1.0, -1.0], ["trial", "w"], "change")
            last = self.objective.evaluate("trial", "trial_gradient")
            return Point(step, last.total, vectors.dot("pseudo", "change"))

        start = Point(0.0, value.total, slope)
        point = backtrack(along, start, first, self.search_config)
        return None if point is None else Taken(point, last)
