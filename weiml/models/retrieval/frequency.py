"""How often items come in a stream of batches, in fixed memory.

For each item the steps between two batches that have it are averaged; one over that is the
probability that a batch has it. (Yi et al., "Sampling-bias-corrected neural modeling for large
corpus item recommendations", RecSys 2019.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np

from weiml.errors import ConfigError, DataError
from weiml.hashing import mix64

__all__ = ["FrequencyEstimator"]


class FrequencyEstimator:
    """Running estimates of the share of batches that have an item. Not thread-safe.

    Items share a cell where their hashes do, and then count as more frequent than they are.

    Args:
        num_cells: of memory, 16 bytes each; a power of 2, several times the number of items.
        rate: share of the newest gap in the average: larger follows changes sooner, with more
            noise.

    Raises:
        ConfigError: `num_cells` is no power of 2, or `rate` not in (0, 1].
    """

    def __init__(self, num_cells: int = 1 << 18, rate: float = 0.05) -> None:
        if num_cells < 1 or num_cells & (num_cells - 1):
            raise ConfigError(f"frequency cells must be a power of 2, got {num_cells}")
        if not 0 < rate <= 1:
            raise ConfigError(f"frequency_rate must be in (0, 1], got {rate}")
        self._rate = rate
        self._step = np.zeros(1, np.int64)
        self._last = np.zeros(num_cells, np.int64)
        self._gap = np.zeros(num_cells, np.float64)

    def observe(self, items: np.ndarray) -> np.ndarray:
        """Take the next batch's items uint64 (n,); return float32 (n,) probabilities in (0, 1].

        An item seen for the first time is taken to come once in as many steps as there were.
        """
        self._step += 1
        return np.asarray(
            _observe(items, self._step[0], self._rate, self._last, self._gap), np.float32
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all that the estimates depend on."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `state` gave.

        Raises:
            DataError: it is of another number of cells.
        """
        for name, array in self._arrays().items():
            if state[name].shape != array.shape:
                raise DataError(
                    f"frequencies of {len(array)} cells cannot be set from {len(state[name])}; "
                    "frequency_cells has changed"
                )
            array[:] = state[name]

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"step": self._step, "last": self._last, "gap": self._gap}


@numba.njit(cache=True, nogil=True)
def _observe(
    items: np.ndarray, step: np.int64, rate: float, last: np.ndarray, gap: np.ndarray
) -> np.ndarray:
    mask = np.uint64(last.size - 1)
    out = np.empty(items.size, np.float64)
    for i in range(items.size):
        cell = mix64(items[i]) & mask
        if last[cell] < step:  # once a batch
            since = step - last[cell]
            gap[cell] = since if last[cell] == 0 else (1 - rate) * gap[cell] + rate * since
            last[cell] = step
        out[i] = 1.0 / gap[cell]
    return out
