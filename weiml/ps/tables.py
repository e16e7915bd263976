"""A sparse table: an index of keys and, row by row beside it, the optimizer's state.

One writer, no locks; it knows one shard's keys only, and neither workers nor their clock.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from weiml.config import to_mapping
from weiml.errors import ConfigError
from weiml.ps import kernels
from weiml.ps.index import KeyIndex
from weiml.ps.optimizers import Optimizer, OptimizerConfig, optimizer_from_mapping

__all__ = ["SparseTable", "TableConfig"]

_MAX_DIM = 4096


@dataclass(frozen=True)
class TableConfig:
    """One table of a parameter server."""

    name: str
    """A word of letters, digits, ``_``, ``-`` and ``.``; it becomes part of file names."""
    _: KW_ONLY
    dim: int = 1
    """Weights per key."""
    optimizer: OptimizerConfig
    """The rule that gradients go through."""
    init_scale: float = 0.0
    """Standard deviation of a new row's weights; 0 starts rows at 0."""
    seed: int = 0
    """With the key and the column, all that a new row's weights depend on."""

    def __post_init__(self) -> None:
        check_name("table", self.name)
        if not 1 <= self.dim <= _MAX_DIM:
            raise ConfigError(f"table {self.name!r}: dim must be 1 to {_MAX_DIM}, got {self.dim}")
        if not isinstance(self.optimizer, Optimizer):
            raise ConfigError(
                f"table {self.name!r}: optimizer must be FTRL(...), Adagrad(...), SGD(...) or "
                f"another Optimizer, got {self.optimizer!r}"
            )
        if not (self.init_scale >= 0 and np.isfinite(self.init_scale)):
            raise ConfigError(
                f"table {self.name!r}: init_scale must be a finite number, 0 or more, "
                f"got {self.init_scale!r}"
            )
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"table {self.name!r}: seed must be in 0 … 2⁶⁴-1, got {self.seed}")

    @property
    def width(self) -> int:
        """The number of float32 in a row."""
        return self.optimizer.width(self.dim)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data fit for JSON; `from_mapping` reads it back."""
        return to_mapping(self)

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> TableConfig:
        """Build the configuration that `to_mapping` wrote."""
        rest = dict(mapping)
        optimizer: Any = optimizer_from_mapping(rest.pop("optimizer"))
        return cls(rest.pop("name"), optimizer=optimizer, **rest)


def check_name(what: str, name: str) -> None:
    """Raise ConfigError unless `name` is fit to be part of a file name."""
    if not name or name.startswith(".") or not all(c.isalnum() or c in "_-." for c in name):
        raise ConfigError(
            f"{what} name {name!r} must be a word of letters, digits, '_', '-' and '.', "
            f"and not start with '.'"
        )


class SparseTable:
    """Rows by uint64 key. Keys of a call should be distinct; repeated ones act in their order.

    Pulling never inserts: a missing key gives the row that inserting it would start with. Each row
    remembers the sequence number of its last change, so that changes can be listed cheaply.
    """

    def __init__(self, config: TableConfig) -> None:
        self.config = config
        self.index = KeyIndex()
        self._state = np.empty((self.index.row_capacity, config.width), np.float32)
        self._touched = np.zeros(self.index.row_capacity, np.int64)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def nbytes(self) -> int:
        """Bytes of index and rows, room to grow included."""
        return self.index.nbytes + self._state.nbytes + self._touched.nbytes

    @property
    def keys(self) -> np.ndarray:
        """uint64 (len,): the keys in the order of insertion (a view)."""
        return self.index.keys

    @property
    def state(self) -> np.ndarray:
        """float32 (len, width): the rows in the order of insertion (a view)."""
        return self._state[: len(self)]

    def pull_state(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows of `keys` uint64 (n,): a new float32 (n, width)."""
        positions = self.index.find(keys)
        out = np.asarray(kernels.gather_rows(self._state, positions))
        missing = np.flatnonzero(positions < 0)
        if missing.size:
            out[missing] = self.initial_state(keys[missing])
        return out

    def pull_weights(self, keys: np.ndarray) -> np.ndarray:
        """Return the weights of `keys` uint64 (n,): a new float32 (n, dim)."""
        return self.config.optimizer.weights(self.pull_state(keys))

    def push_gradients(self, keys: np.ndarray, grads: np.ndarray, sequence: int) -> None:
        """Apply gradients float32 (n, dim) through the optimizer; missing keys are inserted."""
        positions = self._insert(keys)
        self.config.optimizer.apply(self._state, positions, grads)
        kernels.stamp_rows(self._touched, positions, sequence)

    def push_differences(self, keys: np.ndarray, differences: np.ndarray, sequence: int) -> None:
        """Add float32 (n, width) to the rows; missing keys are inserted first."""
        positions = self._insert(keys)
        kernels.add_rows(self._state, positions, differences)
        kernels.stamp_rows(self._touched, positions, sequence)

    def put_state(self, keys: np.ndarray, state: np.ndarray, sequence: int) -> None:
        """Set the rows of `keys` to float32 (n, width), as loading a checkpoint does."""
        positions = self._insert(keys)
        self._state[positions] = state
        kernels.stamp_rows(self._touched, positions, sequence)

    def changed(self, since: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (keys, weights (n, dim)) of the rows changed after sequence number `since`."""
        positions = kernels.rows_since(self._touched[: len(self)], since)
        weights = self.config.optimizer.weights(kernels.gather_rows(self._state, positions))
        return self.keys[positions], weights

    def initial_state(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows that new keys start with: float32 (n, width)."""
        config = self.config
        flat = np.require(keys, np.uint64, ["C", "W"])
        weights = kernels.initial_weights(
            flat, config.dim, np.uint64(config.seed), float(config.init_scale)
        )
        return config.optimizer.initial_state(np.asarray(weights))

    def _insert(self, keys: np.ndarray) -> np.ndarray:
        before = len(self)
        positions = self.index.find_or_insert(keys)
        after = len(self)
        if after > len(self._state):
            self._grow(before)
        if after > before:
            self._state[before:after] = self.initial_state(self.keys[before:after])
        return positions

    def _grow(self, rows: int) -> None:
        capacity = self.index.row_capacity
        state = np.empty((capacity, self.config.width), np.float32)
        state[:rows] = self._state[:rows]
        touched = np.zeros(capacity, np.int64)
        touched[:rows] = self._touched[:rows]
        self._state, self._touched = state, touched
