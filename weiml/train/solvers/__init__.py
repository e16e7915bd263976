"""Batch solvers on the parameter server's vectors: L-BFGS and OWL-QN to the optimum."""

from __future__ import annotations

from weiml.train.solvers.config import SearchConfig, SolverConfig, StopConfig
from weiml.train.solvers.minimise import Iteration, Minimiser, Standing, StopReason
from weiml.train.solvers.result import SolverResult
from weiml.train.solvers.solver import BatchSolver, SolverProgress
from weiml.train.solvers.vectors import SolverVectors

__all__ = [
    "BatchSolver",
    "Iteration",
    "Minimiser",
    "SearchConfig",
    "SolverConfig",
    "SolverProgress",
    "SolverResult",
    "SolverVectors",
    "Standing",
    "StopConfig",
    "StopReason",
]
