"""The two loops of L-BFGS over a matrix of dot products, and the history that it is made of.

The direction is a linear combination of the 2m + 1 vectors s₁ … s_m, y₁ … y_m and g, and its
coefficients follow from their dot products alone (Chen, Wang and Zhou, "Large-scale L-BFGS using
MapReduce", NIPS 2014, algorithm 3). An iteration changes one s, one y and g, so three rows of the
matrix are asked for, not all.
"""

from __future__ import annotations

import numpy as np

from weiml.train.solvers.vectors import SolverVectors

__all__ = ["History", "direction_coefficients"]


def direction_coefficients(gram: np.ndarray) -> np.ndarray:
    """Return the coefficients, float64 (2m + 1,), of s (oldest first), y and g in the direction.

    Args:
        gram: float64 (2m + 1, 2m + 1), their dot products; ``s_i · y_i`` are above 0.
    """
    m = len(gram) // 2
    delta = np.zeros(2 * m + 1)
    delta[-1] = -1.0
    if m == 0:
        return delta
    alpha = np.zeros(m)
    for i in reversed(range(m)):
        alpha[i] = delta @ gram[:, i] / gram[i, m + i]
        delta[m + i] -= alpha[i]
    delta *= gram[m - 1, 2 * m - 1] / gram[2 * m - 1, 2 * m - 1]
    for i in range(m):
        beta = delta @ gram[:, m + i] / gram[i, m + i]
        delta[i] += alpha[i] - beta
    return delta


class History:
    """The last m pairs (s, y) in a ring of vectors, with the dot products of all of them.

    Args:
        vectors: where they live; ``s0`` … and ``y0`` … are created there.
        size: m.
        order: the ring's slots in use, oldest first: those of a saved state.
    """

    def __init__(self, vectors: SolverVectors, size: int, order: list[int] | None = None) -> None:
        self._vectors = vectors
        self._size = size
        self.order = list(order or [])
        # One more than are in use, so that a pair is lost only to one that is kept.
        self._slots = size + 1
        vectors.create(*(f"{kind}{k}" for kind in "sy" for k in range(self._slots)))
        self._gram = np.zeros((2 * self._slots, 2 * self._slots))
        self._fill(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def clear(self) -> None:
        """Forget all pairs."""
        self.order = []

    def spare(self) -> tuple[str, str]:
        """Return the names of the vectors that the next pair is written to."""
        slot = self._spare()
        return f"s{slot}", f"y{slot}"

    def keep(self) -> None:
        """Take the pair that was written to the `spare` vectors as the newest."""
        slot = self._spare()
        self.order = [*self.order, slot][-self._size :]
        self._fill([slot])

    def direction(self, gradient: str, out: str) -> None:
        """Write ``-H g`` to `out`, H the inverse Hessian's approximation; -g without pairs."""
        m = len(self.order)
        names = self._names(self.order)
        gram = np.empty((2 * m + 1, 2 * m + 1))
        rows = self._rows(self.order)
        gram[:-1, :-1] = self._gram[np.ix_(rows, rows)]
        gram[-1] = self._vectors.products([gradient], [*names, gradient])[0]
        gram[:, -1] = gram[-1]
        self._vectors.combine(list(direction_coefficients(gram)), [*names, gradient], out)

    def _spare(self) -> int:
        return next(slot for slot in range(self._slots) if slot not in self.order)

    def _names(self, slots: list[int]) -> list[str]:
        return [f"{kind}{k}" for kind in "sy" for k in slots]

    def _rows(self, slots: list[int]) -> list[int]:
        return [offset + k for offset in (0, self._slots) for k in slots]

    def _fill(self, slots: list[int]) -> None:
        """Ask for the products of the vectors in some slots with all."""
        if slots:
            found = self._vectors.products(self._names(slots), self._names(self.order))
            rows, columns = self._rows(slots), self._rows(self.order)
            self._gram[np.ix_(rows, columns)] = found
            self._gram[np.ix_(columns, rows)] = found.T
