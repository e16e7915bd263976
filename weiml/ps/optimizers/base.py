"""The contract of an optimizer: a rule that turns gradients into new rows.

It sees rows as float32 states, by address or as a matrix, and knows neither keys nor shards. A
row's state is stored as columns: first all of one quantity, then all of the next, so that FTRL of
dim 2 is (z0, z1, n0, n1); what a row keeps once, not per weight, comes last. What the rules do with
rows that a push does not name, with repeated ones and with many examples at once is told in
docs/optimizers.md.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np

from weiml.errors import ConfigError
from weiml.ps.optimizers import rows
from weiml.ps.rows.blocks import Block, copy_block

__all__ = [
    "MatrixOptimizer",
    "Optimizer",
    "check_fraction",
    "check_not_negative",
    "check_positive",
    "step_arrays",
]


class Optimizer(abc.ABC):
    """A rule over rows of float32. Instances are frozen keyword-only dataclasses of parameters.

    A subclass gives `initial_state` and `apply`, and `read` and `weights` too where what is served
    is not the first `dim` numbers of the state. One that would rather work on matrices than on
    memory extends `MatrixOptimizer`.
    """

    name: str
    """A field of each rule, ``Literal["..."]``: what configuration files call it."""

    sums: ClassVar[bool]
    """Whether the state is a sum over examples, so that differences of state may be added."""

    columns: ClassVar[int]
    """How many quantities the state keeps per weight."""

    extras: ClassVar[int] = 0
    """How many it keeps per row besides."""

    squares: ClassVar[int | None] = None
    """Which of a weight's columns is a sum of squares, so that no difference of it is negative."""

    multiplicity: ClassVar[bool] = False
    """Whether `apply` makes use of the examples' counts and squared gradients."""

    adds: ClassVar[bool] = True
    """Whether two pushes of a row may be made one by adding them. If not, clients send pushes as
    they are, never rounded or held back for a later one."""

    stores_weights: ClassVar[bool] = True
    """Whether the first `dim` numbers of the state are the weights that gradients act on."""

    def width(self, dim: int) -> int:
        """Return the number of float32 in the state of a row with `dim` weights."""
        return self.columns * dim + self.extras

    def dim(self, width: int) -> int:
        """Return the number of weights of a row whose state is `width` float32 wide."""
        return (width - self.extras) // self.columns

    @abc.abstractmethod
    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return the state float32 (n, width) of new rows with `weights` float32 (n, dim)."""

    @abc.abstractmethod
    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply `grads` float32 (n, dim) to the rows at `addresses` int64 (n,), in place.

        In order: an address that occurs twice gets its gradients one after the other. Rows not
        named are not touched. `counts` float32 (n,) tells of how many examples each gradient is
        the sum, 1 where it is None; `squares` float32 (n, dim) is the sum of the examples' squared
        gradients, ``grads² / counts`` where it is None.
        """

    def init(self, addresses: np.ndarray, weights: np.ndarray) -> None:
        """Write the states of new rows at `addresses` int64 (n,) with `weights` (n, dim)."""
        state = self.initial_state(np.asarray(weights, np.float32))
        rows.write_rows(_integers(addresses), _floats(state))

    def read(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the weights to serve of the rows at `addresses` int64 (n,): float32 (n, dim)."""
        return np.asarray(rows.read_rows(_integers(addresses), 0, dim))

    def read_training(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the weights that gradients act on: float32 (n, dim), mostly those served."""
        return self.read(addresses, dim)

    def step_block(self, dim: int) -> Block | None:
        """Return what `apply` does, without counts and squares, for `RowStore.visit`.

        None where there is no such function: then rows are located first and handed to `apply`.
        """
        return None

    def read_block(self, dim: int) -> Block | None:
        """Return what `read` does for `RowStore.visit`, or None."""
        return copy_block(dim) if type(self).read is Optimizer.read else None

    def weights(self, state: np.ndarray) -> np.ndarray:
        """Return the weights to serve, a new float32 (n, dim), of state rows (n, width)."""
        return self.read(*self._matrix(state))

    def training_weights(self, state: np.ndarray) -> np.ndarray:
        """Return the weights that gradients act on, a new float32 (n, dim), of state rows."""
        return self.read_training(*self._matrix(state))

    def update(
        self,
        state: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the state (n, width) after one gradient (n, dim) per row; inputs stay as is."""
        out = np.array(state, np.float32, order="C")
        self.apply(rows.matrix_addresses(out), grads, counts, squares)
        return out

    def _matrix(self, state: np.ndarray) -> tuple[np.ndarray, int]:
        matrix = np.ascontiguousarray(state, np.float32)
        return rows.matrix_addresses(matrix), self.dim(matrix.shape[1])


class MatrixOptimizer(Optimizer):
    """A rule written as functions of matrices: `initial_state`, `update`, perhaps `weights`.

    Slower than a compiled loop over addresses, since rows are copied out and in. A subclass's
    `update` must not change its arguments, and may take each row as occurring once.
    """

    @abc.abstractmethod
    def update(
        self,
        state: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the state float32 (n, width) after one gradient (n, dim) per row."""

    def weights(self, state: np.ndarray) -> np.ndarray:
        """Return the weights to serve, a new float32 (n, dim), of state rows (n, width)."""
        return np.array(state[:, : self.dim(state.shape[1])], np.float32)

    def training_weights(self, state: np.ndarray) -> np.ndarray:
        """Return the weights that gradients act on: those served."""
        return self.weights(state)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """See `Optimizer.apply`: one `update` for each time that an address occurs."""
        width = self.width(grads.shape[1])
        for turn in rows.turns(addresses):
            where = np.ascontiguousarray(addresses[turn])
            state = self.update(
                rows.read_rows(_integers(where), 0, width),
                grads[turn],
                None if counts is None else counts[turn],
                None if squares is None else squares[turn],
            )
            rows.write_rows(_integers(where), _floats(state))

    def read(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """See `Optimizer.read`."""
        state = rows.read_rows(_integers(addresses), 0, self.width(dim))
        return np.asarray(self.weights(np.asarray(state)), np.float32)


def step_arrays(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the arguments of `Optimizer.apply` as compiled loops take them.

    All are C-contiguous and read-only, so that arrays out of a shared store, which are read-only,
    and others meet the same compiled loop.
    """
    return (
        _integers(addresses),
        _floats(grads),
        None if counts is None else _floats(counts),
        None if squares is None else _floats(squares),
    )


def _integers(array: np.ndarray) -> np.ndarray:
    return _read_only(np.ascontiguousarray(array, np.int64))


def _floats(array: np.ndarray) -> np.ndarray:
    return _read_only(np.ascontiguousarray(array, np.float32))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def check_positive(where: str, **values: float) -> None:
    """Raise ConfigError unless every value is finite and above 0; `where` names the rule."""
    for knob, value in values.items():
        if not (value > 0 and np.isfinite(value)):
            raise ConfigError(f"{where}: {knob} must be a finite number above 0, got {value!r}")


def check_not_negative(where: str, **values: float) -> None:
    """Raise ConfigError unless every value is finite and 0 or more."""
    for knob, value in values.items():
        if not (value >= 0 and np.isfinite(value)):
            raise ConfigError(f"{where}: {knob} must be a finite number, 0 or more, got {value!r}")


def check_fraction(where: str, **values: float) -> None:
    """Raise ConfigError unless every value is at least 0 and below 1."""
    for knob, value in values.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{where}: {knob} must be at least 0 and below 1, got {value!r}")
