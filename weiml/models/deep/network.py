"""A torch module whose parameters are one flat vector, so that they travel as one array.

Gradients are averaged, pushed and saved without a copy per layer. It knows torch, no tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import nn

from weiml.errors import ConfigError, DataError
from weiml.models.deep.network_config import NetworkConfig

__all__ = [
    "DenseOptimizer",
    "Network",
    "Precision",
    "draws_of",
    "make_network",
    "torch_threads",
]

DenseOptimizer = Literal["adam", "adagrad", "sgd"]
Precision = Literal["float32", "bfloat16"]


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch on `count` threads inside: with equal numbers, matrix products round alike."""
    threads = torch.get_num_threads()
    if threads == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Network:
    """A module, its flat parameters and the optimizer that moves them.

    Adam is AdamW: Kingma and Ba, "Adam", ICLR 2015; Loshchilov and Hutter, "Decoupled weight
    decay", ICLR 2019.

    Args:
        module: its parameters and floating buffers become views of flat vectors.
        generator: what the module draws from in training; its state is part of the network's.
        optimizer: the rule.
        lr: its learning rate.
        weight_decay: decoupled for adam; added to the gradient for the others.
        momentum: of sgd; beta_1 of adam, whose default None means 0.9.
        clip_norm: longest gradient that is stepped along; 0: any.
        precision: of products and activations; parameters and sums stay float32.
        device: where the module computes.
        threads: that steps are taken with.
    """

    def __init__(
        self,
        module: nn.Module,
        generator: torch.Generator,
        *,
        optimizer: DenseOptimizer = "adam",
        lr: float,
        weight_decay: float = 0.0,
        momentum: float | None = None,
        clip_norm: float = 0.0,
        precision: Precision = "float32",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._threads = threads
        self.module = module.to(device)
        self.device = torch.device(device)
        self._generator = generator
        self._precision = precision
        self._clip_norm = clip_norm
        self._tensors = _floats(module)
        parameters = [p for p in module.parameters() if p.requires_grad]
        self._num_parameters = sum(p.numel() for p in parameters)
        self.flat = _flatten(list(self._tensors.values()), self.device)
        self._gradient = torch.zeros(self._num_parameters, device=self.device)
        for parameter, part in zip(parameters, self._parts(self._gradient), strict=True):
            parameter.grad = part
        self._trained = nn.Parameter(self.flat[: self._num_parameters])
        self._optimizer = _make_optimizer(optimizer, self._trained, lr, weight_decay, momentum)
        self._lr = lr

    def _parts(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Cut a vector into tensors with the parameters' shapes."""
        parts, at = [], 0
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                parts.append(flat[at : at + parameter.numel()].view(parameter.shape))
                at += parameter.numel()
        return parts

    @contextlib.contextmanager
    def computing(self, *, training: bool, exact: bool = False) -> Iterator[None]:
        """Forward passes of the module inside are in this mode, and in the network's precision.

        `exact`: in float32, whatever the precision.
        """
        self.module.train(training)
        kind = self.device.type
        half = self._precision == "bfloat16" and not exact
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
            yield

    def gradient(self) -> np.ndarray:
        """Return the gradients of all backward passes since the last `apply`, float32 (P,)."""
        return np.asarray(self._gradient.cpu().numpy())

    def apply(self, gradient: np.ndarray) -> None:
        """Take one step along a gradient float32 (P,), and forget those of backward passes."""
        along = torch.from_numpy(np.ascontiguousarray(gradient, np.float32)).to(self.device)
        if self._clip_norm:
            along = along * min(1.0, self._clip_norm / max(float(along.norm()), 1e-12))
        self._trained.grad = along
        with torch_threads(self._threads):
            self._optimizer.step()
        self._trained.grad = None
        self.forget()

    def forget(self) -> None:
        """Forget the gradients of backward passes."""
        self._gradient.zero_()

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate for good."""
        self._lr *= factor
        self.schedule_lr(1.0)

    def schedule_lr(self, factor: float) -> None:
        """Set the factor on the learning rate that holds until the next call."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * factor

    def tensors(self) -> dict[str, np.ndarray]:
        """Return copies of parameters, then floating buffers, by name."""
        return {
            name: tensor.detach().cpu().numpy().copy() for name, tensor in self._tensors.items()
        }

    def set_vector(self, vector: np.ndarray) -> None:
        """Set all that `tensors` gives from one float32 vector.

        Raises:
            DataError: it is of another length.
        """
        if vector.shape != tuple(self.flat.shape):
            raise DataError(
                f"the network has {self.flat.numel()} parameters, got an array {vector.shape}"
            )
        with torch.no_grad():
            self.flat.copy_(torch.from_numpy(np.array(vector, np.float32)))

    def state(self) -> dict[str, np.ndarray]:
        """Return what the optimizer remembers."""
        moments = self._optimizer.state.get(self._trained, {})
        tensors = {n: m for n, m in moments.items() if isinstance(m, torch.Tensor)}
        return {name: np.array(moment.cpu().numpy()) for name, moment in tensors.items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `state` gave."""
        moments = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
        self._optimizer.state.clear()
        if moments:
            at = self.device
            self._optimizer.state[self._trained] = {
                name: moment if name == "step" else moment.to(at)
                for name, moment in moments.items()
            }

    def generator_state(self) -> np.ndarray:
        """Return the state of what training draws from: uint8 (n,)."""
        return np.asarray(self._generator.get_state().numpy().copy())

    def set_generator_state(self, state: np.ndarray) -> None:
        """Set what `generator_state` gave."""
        self._generator.set_state(torch.from_numpy(np.array(state)))


def draws_of(seed: int, rank: int) -> torch.Generator:
    """Return what a worker's training draws from."""
    return torch.Generator().manual_seed(seed * 1_000_003 + rank + 1)


def make_network(
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    config: NetworkConfig,
    *,
    seed: int,
    threads: int,
    device: str,
) -> Network:
    """Build a network, whose first parameters depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
    return Network(
        module,
        generator,
        optimizer=config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        clip_norm=config.clip_norm,
        precision=config.precision,
        device=device,
        threads=threads,
    )


def _floats(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the trained parameters, then the floating buffers and frozen parameters, by name."""
    named = dict(module.named_parameters())
    trained = {name: p for name, p in named.items() if p.requires_grad}
    rest = {name: p for name, p in named.items() if not p.requires_grad}
    buffers = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
    return {**trained, **rest, **buffers}


def _flatten(tensors: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Move the contents of tensors to one vector, of which they become views."""
    flat = torch.zeros(sum(tensor.numel() for tensor in tensors), device=device)
    at = 0
    for tensor in tensors:
        part = flat[at : at + tensor.numel()].view(tensor.shape)
        part.copy_(tensor.detach())
        tensor.data = part
        at += tensor.numel()
    return flat


def _make_optimizer(
    name: DenseOptimizer,
    parameter: nn.Parameter,
    lr: float,
    weight_decay: float,
    momentum: float | None,
) -> torch.optim.Optimizer:
    if name == "adam":
        betas = (0.9 if momentum is None else momentum, 0.999)
        # On a CPU one loop over the vector instead of ten.
        fused = parameter.device.type == "cpu"
        return torch.optim.AdamW(
            [parameter], lr=lr, weight_decay=weight_decay, betas=betas, fused=fused
        )
    if name == "adagrad":
        return torch.optim.Adagrad([parameter], lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(
            [parameter], lr=lr, weight_decay=weight_decay, momentum=momentum or 0.0
        )
    raise ConfigError(f"dense_optimizer must be one of {DenseOptimizer}, got {name!r}")
