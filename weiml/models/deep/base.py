"""Networks over embeddings: what all models have in common that torch computes.

    logits = network([pool_s(v_k x_k) for slots s] ‖ dense, Σ_k w_k x_k)

What is looked up, pooled and pushed is `SparseModel`'s; here a torch module is run on it. A model
says how its module is built.
"""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from weiml.features import Batch
from weiml.models.base import Columns, Rows
from weiml.models.deep.contract import Arrays, Gradients
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.network import Network, draws_of, make_network, torch_threads
from weiml.models.deep.sparse import SparseModel

__all__ = ["DeepModel"]


class DeepModel(SparseModel):
    """A torch network over rows of the parameter server. Subclasses build the network."""

    shape: NetworkShape
    network: Network

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        generator = draws_of(self.seed, self.rank)
        self.shape = NetworkShape(**vars(self.shape), generator=generator)
        self.network = make_network(
            lambda: self.build(self.shape),
            generator,
            self.config,
            seed=self.seed,
            threads=self.threads,
            device=self.device,
        )

    @abstractmethod
    def build(self, shape: NetworkShape) -> nn.Module:
        """Return the network: a module that maps `Inputs` to logits (B,) or (B, T).

        It may return (logits, further loss) of what is minimised beside the tasks' losses: a loss
        an example, (B,), which counts by the example's weight, or one sum over all. Its parameters
        are drawn from torch's own generator, which is seeded.
        """

    def _logits(self, arrays: Arrays) -> np.ndarray:
        with self._scoring():
            logits, _ = self._forward(self._inputs(arrays), training=False)
            return np.asarray(logits.cpu().numpy())

    def _learn(self, batch: Batch, arrays: Arrays, total: float) -> Gradients:
        with torch_threads(self.threads):
            inputs = self._inputs(arrays)
            for leaf in inputs[:3]:
                if leaf is not None:
                    leaf.requires_grad_()
            logits, further = self._forward(inputs, training=total > 0)
            losses, gradients = self._losses(batch, logits.detach())
            if logits.requires_grad:
                further = [loss for loss in further if loss.requires_grad]
                shares = [self._shares(batch, loss) for loss in further]
                torch.autograd.backward([logits, *further], [gradients, *shares])
            flat, linear, sequences = (None if x is None else _array(x.grad, x) for x in inputs[:3])
        assert flat is not None
        return Gradients(losses, flat, linear, sequences)

    @contextlib.contextmanager
    def _scoring(self) -> Iterator[None]:
        """Torch computes inside as it does for scores: nothing is learned of it."""
        with (
            torch_threads(self.threads),
            torch.inference_mode(),
            self.network.computing(training=False, exact=True),
        ):
            yield

    def _inputs_of(self, batch: Batch, rows: Mapping[str, Rows]) -> Inputs:
        """Return the network's inputs by rows that are told by position."""
        return self._inputs(self.arrays(batch, rows))

    def _inputs(self, arrays: Arrays) -> Inputs:
        """Return the network's inputs, on its device."""
        flat, linear, sequences, mask = (
            None if array is None else torch.from_numpy(array).to(self.device) for array in arrays
        )
        assert flat is not None
        return Inputs(flat, linear, sequences, mask, self.shape)

    def _is_finite(self, array: np.ndarray) -> bool:
        with torch_threads(self.threads):
            return math.isfinite(torch.from_numpy(array).sum().item())

    def _empty(self, *shape: int) -> np.ndarray:
        return np.asarray(torch.empty(shape).numpy())  # aligned as torch's kernels like it

    def _forward(
        self, inputs: Inputs, *, training: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return (logits in float32, a further loss if the network has one)."""
        with self.network.computing(training=training, exact=torch.is_inference_mode_enabled()):
            found = self.network.module(inputs)
        logits, *further = found if isinstance(found, tuple) else (found,)
        return logits.float(), further

    def _losses(self, batch: Batch, logits: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return (sum of weighted losses, its gradients by the logits)."""
        total, gradients = self._loss(batch, logits.cpu().numpy())
        return total, torch.from_numpy(gradients).to(self.device)

    def _shares(self, batch: Batch, further: torch.Tensor) -> torch.Tensor:
        """Return what a further loss counts by: 1, or the weights if it is one an example."""
        if not further.ndim:
            return torch.ones_like(further)
        return torch.from_numpy(batch.weights.copy()).to(further)


def _array(gradient: torch.Tensor | None, of: torch.Tensor) -> np.ndarray:
    """Return a gradient; zeros where the network did not use what it is of."""
    found = torch.zeros_like(of) if gradient is None else gradient
    return np.asarray(found.detach().cpu().numpy())
