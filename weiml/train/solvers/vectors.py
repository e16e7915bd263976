"""The solver's vectors on the parameter server, by short names: only scalars come and go.

It knows vectors and the functions over them, no objective and no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weiml.ps import ParameterServer

__all__ = ["SolverVectors"]


class SolverVectors:
    """Vectors of one length. Not thread-safe: one driver.

    Every call waits for its answer, so that what workers read afterwards is what was written. All
    of it goes through a client outside the clock.

    Args:
        server: where the vectors live.
        length: of each.
        prefix: put before each name on the server.
    """

    def __init__(self, server: ParameterServer, length: int, prefix: str = "solver") -> None:
        self.length = length
        self._server = server
        self._prefix = prefix
        self._client = server.client()
        self._names: list[str] = []

    def create(self, *names: str) -> None:
        """Make vectors of zeros. Those that the server has already stay as they are."""
        for name in names:
            self._server.create_vector(self.full(name), np.zeros(self.length, np.float32))
            self._names.append(name)

    def drop(self) -> None:
        """Remove all vectors that were created here."""
        for name in self._names:
            self._server.drop_vector(self.full(name))
        self._names = []

    def full(self, name: str) -> str:
        """Return the name that a vector has on the server."""
        return f"{self._prefix}.{name}"

    def pull(self, name: str) -> np.ndarray:
        """Return a vector whole: float32 (length,)."""
        return np.asarray(self._client.pull_vector(self.full(name)).wait())

    def assign(self, values: np.ndarray, name: str) -> None:
        """Set a vector to float32 values (length,)."""
        self._call("assign", np.asarray(values, np.float32), self.full(name))

    def dot(self, x: str, y: str) -> float:
        """Return ``Σ x y`` in float64."""
        return float(self._call("dot", self.full(x), self.full(y)))

    def norm(self, x: str) -> float:
        """Return ``sqrt(Σ x²)`` in float64."""
        return float(self._call("l2", self.full(x)))

    def total(self, x: str) -> float:
        """Return ``Σ |x|`` in float64."""
        return float(self._call("l1", self.full(x)))

    def largest(self, x: str) -> float:
        """Return the largest ``|x|``."""
        return float(self._call("linf", self.full(x)))

    def count_non_zeros(self, x: str) -> int:
        """Return how many numbers are not 0."""
        return int(self._call("nnz", self.full(x)))

    def products(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """Return dot products, float64 (len(left), len(right)), each with the bits of `dot`."""
        return np.asarray(self._call("products", self._all(left), self._all(right)))

    def copy(self, x: str, out: str) -> None:
        """``out = x``."""
        self._call("copy", self.full(x), self.full(out))

    def multiply(self, x: str, y: str, out: str) -> None:
        """``out = x y``, element by element."""
        self._call("mul", self.full(x), self.full(y), self.full(out))

    def combine(self, coefficients: Sequence[float], names: Sequence[str], out: str) -> None:
        """``out = Σ coefficients[j] names[j]``, added up in float64 and rounded once."""
        numbers = np.array(coefficients, np.float64)
        self._call("lincomb", numbers, self._all(names), self.full(out))

    def pseudo_gradient(self, w: str, g: str, l1: float, out: str, scales: str) -> None:
        """See `weiml.ps.functions`: that of ``f + l1 Σ scales |w|``."""
        names = self.full(out), self.full(scales)
        self._call("pseudo_gradient", self.full(w), self.full(g), l1, *names)

    def orthant(self, w: str, pseudo: str, out: str) -> None:
        """``out = sign(w)``, and ``-sign(pseudo)`` where w is 0."""
        self._call("orthant", self.full(w), self.full(pseudo), self.full(out))

    def project(self, x: str, orthant: str, out: str, sign: float, scales: str) -> None:
        """``out = x`` where it has the sign of ``sign · orthant`` or scales is 0, else 0."""
        names = self.full(x), self.full(orthant), self.full(out)
        self._call("orthant_project", *names, sign, self.full(scales))

    def _all(self, names: Sequence[str]) -> list[str]:
        return [self.full(name) for name in names]

    def _call(self, function: str, *arguments: Any) -> Any:
        return self._client.call(function, *arguments).wait()
