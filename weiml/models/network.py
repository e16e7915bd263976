"""A multi-layer perceptron whose parameters are one flat vector, so that they travel as one array.

Gradients are averaged, pushed and saved without a copy per layer. It knows torch, no tables.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from weiml.errors import DataError

__all__ = ["DenseNetwork", "single_thread"]


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread inside: matrix products then round alike in every process."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class DenseNetwork:
    """``x -> W_L relu(… relu(W_1 x + b_1) …) + b_L``, one output, trained by AdamW.

    Kingma and Ba, "Adam", ICLR 2015; Loshchilov and Hutter, "Decoupled weight decay", ICLR 2019.

    Args:
        num_inputs: columns of x.
        hidden: sizes of the hidden layers.
        lr: Adam's learning rate.
        weight_decay: decoupled, on all parameters.
        dropout: share of each hidden layer's outputs set to 0 in training.
        seed: of the initial parameters: He's uniform, biases 0.
        dropout_seed: of the masks.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden: tuple[int, ...],
        *,
        lr: float,
        weight_decay: float,
        dropout: float,
        seed: int,
        dropout_seed: int,
    ) -> None:
        sizes = (num_inputs, *hidden, 1)
        self._shapes: dict[str, tuple[int, ...]] = {}
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            self._shapes[f"layers.{i}.weight"] = (after, before)
            self._shapes[f"layers.{i}.bias"] = (after,)
        self._lengths = [int(np.prod(shape)) for shape in self._shapes.values()]
        self._dropout = dropout
        self._generator = torch.Generator().manual_seed(dropout_seed)
        self.flat = torch.zeros(sum(self._lengths), dtype=torch.float32)
        self._initialise(torch.Generator().manual_seed(seed))
        self.flat.requires_grad_()
        self._adam = torch.optim.AdamW([self.flat], lr=lr, weight_decay=weight_decay)

    def _initialise(self, generator: torch.Generator) -> None:
        for part, shape in zip(
            torch.split(self.flat, self._lengths), self._shapes.values(), strict=True
        ):
            if len(shape) == 2:
                bound = (6.0 / shape[1]) ** 0.5 if shape[0] > 1 else (3.0 / shape[1]) ** 0.5
                part.uniform_(-bound, bound, generator=generator)

    def forward(self, x: torch.Tensor, *, training: bool = False) -> torch.Tensor:
        """Return (B,) outputs of x (B, num_inputs)."""
        parts = torch.split(self.flat, self._lengths)
        shapes = list(self._shapes.values())
        for i in range(0, len(parts), 2):
            x = F.linear(x, parts[i].view(shapes[i]), parts[i + 1])
            if i + 2 < len(parts):
                x = F.relu(x)
                if training and self._dropout:
                    x = x * self._mask(x)
        return x.squeeze(1)

    def gradient(self) -> np.ndarray:
        """Return the gradient of the last backward pass, float32 (P,), and forget it."""
        gradient = self.flat.grad
        assert gradient is not None, "no backward pass has been run"
        self.flat.grad = None
        return gradient.numpy()

    def apply(self, gradient: np.ndarray) -> None:
        """Take one Adam step along a gradient float32 (P,)."""
        self.flat.grad = torch.from_numpy(gradient)
        self._adam.step()
        self.flat.grad = None

    def scale_lr(self, factor: float) -> None:
        """Multiply Adam's learning rate."""
        for group in self._adam.param_groups:
            group["lr"] *= factor

    def tensors(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters by layer."""
        parts = torch.split(self.flat.detach(), self._lengths)
        return {
            name: part.view(shape).numpy().copy()
            for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)
        }

    def set_vector(self, vector: np.ndarray) -> None:
        """Set all parameters from float32 (P,)."""
        if vector.shape != tuple(self.flat.shape):
            raise DataError(
                f"the network has {self.flat.numel()} parameters, got an array {vector.shape}"
            )
        with torch.no_grad():
            self.flat.copy_(torch.from_numpy(np.array(vector, np.float32)))

    def state(self) -> dict[str, np.ndarray]:
        """Return Adam's moments and step, and the state of the masks' generator."""
        moments = self._adam.state.get(self.flat, {})
        state = {name: np.array(value.numpy()) for name, value in moments.items()}
        return state | {"generator": self._generator.get_state().numpy().copy()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `state` gave."""
        moments = {k: torch.from_numpy(np.array(v)) for k, v in state.items() if k != "generator"}
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
        self._adam.state.clear()
        if moments:
            self._adam.state[self.flat] = moments

    def _mask(self, x: torch.Tensor) -> torch.Tensor:
        keep = 1.0 - self._dropout
        return torch.empty_like(x).bernoulli_(keep, generator=self._generator) / keep
