"""What all models with a network have in common: its flat gradients, its state, its steps.

Subclasses make `network` and find gradients; how these travel and are applied is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from weiml.models.base import Model
from weiml.models.deep.contract import DenseNetwork
from weiml.models.deep.network_config import NetworkConfig

__all__ = ["NetworkModel"]


class NetworkModel(Model):
    """A model whose dense part is one `DenseNetwork`; subclasses set it when they are made."""

    config_class: ClassVar[type[NetworkConfig]] = NetworkConfig
    config: NetworkConfig
    has_dense = True
    network: DenseNetwork
    _weight = 0.0
    """Of all examples since the last `apply_dense`."""

    def dense_gradient(self) -> np.ndarray | None:
        """See `Model.dense_gradient`."""
        return np.append(self.network.gradient(), np.float32(self._weight))

    def apply_dense(self, mean: np.ndarray) -> None:
        """See `Model.apply_dense`."""
        self._weight = 0.0
        with self.stages.timed("compute"):
            if mean[-1] > 0:
                self.network.apply(mean[:-1] / mean[-1])
            else:  # examples without weight: even a step along 0 would move by momentum
                self.network.forget()

    def dense_tensors(self) -> dict[str, np.ndarray]:
        """See `Model.dense_tensors`: parameters, then what is kept beside them (statistics)."""
        return self.network.tensors()

    def set_dense_vector(self, vector: np.ndarray) -> None:
        """See `Model.set_dense_vector`."""
        self.network.set_vector(vector)

    def dense_state(self) -> dict[str, np.ndarray]:
        """See `Model.dense_state`."""
        return self.network.state()

    def set_dense_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Model.set_dense_state`."""
        self.network.set_state(state)

    def worker_state(self) -> dict[str, np.ndarray]:
        """See `Model.worker_state`: of the generator that training draws from."""
        return {"generator": self.network.generator_state()}

    def set_worker_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Model.set_worker_state`."""
        self.network.set_generator_state(state["generator"])

    def scale_dense_lr(self, factor: float) -> None:
        """See `Model.scale_dense_lr`."""
        super().scale_dense_lr(factor)
        self.network.scale_lr(factor)

    def schedule_dense_lr(self, factor: float) -> None:
        """See `Model.schedule_dense_lr`."""
        self.network.schedule_lr(factor)
