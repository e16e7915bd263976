"""What a network over rows is given and gives back, in whatever framework: numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Arrays", "DenseNetwork", "Gradients"]


class Arrays(NamedTuple):
    """What a network sees of a batch of B examples; see `weiml.models.deep.inputs.Inputs`."""

    flat: np.ndarray
    """float32 (B, S·d + D): the pooled embedding of each slot, then the dense columns."""
    linear: np.ndarray | None
    """float32 (B,), None without a linear part."""
    sequences: np.ndarray | None
    """float32 (B, Q, L, d), None without sequences."""
    mask: np.ndarray | None
    """bool (B, Q, L): where a sequence has a key."""


class Gradients(NamedTuple):
    """What a network finds of `Arrays` in training; its own gradients it keeps."""

    loss: float
    """Sum of weighted losses."""
    flat: np.ndarray
    linear: np.ndarray | None
    sequences: np.ndarray | None


class DenseNetwork(Protocol):
    """A network whose parameters, and their gradients, are one flat float32 vector each."""

    def gradient(self) -> np.ndarray:
        """Return the sum of gradients since the last `apply` or `forget`, float32 (P,)."""

    def apply(self, gradient: np.ndarray) -> None:
        """Take one step along a gradient float32 (P,), and forget what was summed."""

    def forget(self) -> None:
        """Forget the gradients."""

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate for good."""

    def schedule_lr(self, factor: float) -> None:
        """Set the factor on the learning rate that holds until the next call."""

    def tensors(self) -> dict[str, np.ndarray]:
        """Return copies of the P parameters, then of other floating state, by name."""

    def set_vector(self, vector: np.ndarray) -> None:
        """Set all that `tensors` gives; DataError if it is of another length."""

    def state(self) -> dict[str, np.ndarray]:
        """Return what the optimizer remembers."""

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `state` gave."""

    def generator_state(self) -> np.ndarray:
        """Return the state of what training draws from."""

    def set_generator_state(self, state: np.ndarray) -> None:
        """Set what `generator_state` gave."""
