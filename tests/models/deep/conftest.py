"""A network of a model in float64 with drawn parameters and inputs, to compare with plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weiml.models import Columns, build_model
from weiml.models.deep import DeepModel, Inputs

SLOTS = ("user", "item", "tags", "hour")
DENSE = ("age", "price")


@dataclass(frozen=True)
class Drawn:
    """A network, what it was given and what it answered; all float64."""

    module: nn.Module
    embeddings: np.ndarray
    """(B, S, d)."""
    dense: np.ndarray
    linear: np.ndarray
    logits: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """The embeddings side by side, then the dense columns."""
        return np.concatenate([self.embeddings.reshape(len(self.dense), -1), self.dense], 1)

    def fields(self, dense_fields: bool) -> np.ndarray:
        """Fields (B, F, d), those of the dense columns by their vectors in the network."""
        if not dense_fields:
            return self.embeddings
        own = [self.dense[:, c, None] * self["fields.dense"][c] for c in range(len(DENSE))]
        return np.concatenate([self.embeddings, np.stack(own, 1)], 1)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self.module.state_dict()[name].numpy())

    def mlp(self, name: str, x: np.ndarray) -> np.ndarray:
        """The hidden layers and, if it has one, the output layer of an MLP with ReLU."""
        layers = self.module.get_submodule(name).layers
        assert isinstance(layers, nn.Sequential)
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                x = x @ self[f"{name}.layers.{i}.weight"].T + self[f"{name}.layers.{i}.bias"]
            else:
                assert isinstance(layer, nn.ReLU)
                x = np.maximum(x, 0)
        return x


def _draw(name: str, count: int = 5, dim: int = 3, **config: Any) -> Drawn:
    columns = Columns(slots=SLOTS, dense_names=DENSE)
    model = build_model(name, {"name": name, "embedding_dim": dim, **config}, columns)
    assert isinstance(model, DeepModel)
    module = model.network.module.double().eval()
    generator = torch.Generator().manual_seed(7)
    draw: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, **draw))
        flat = torch.randn(count, model.shape.num_inputs, **draw)
        linear = torch.randn(count, **draw) if model.has_linear else None
        inputs = Inputs(flat, linear, None, None, model.shape)
        logits = module(inputs)
    return Drawn(
        module,
        inputs.embeddings.numpy(),
        inputs.dense.numpy(),
        np.zeros(count) if linear is None else linear.numpy(),
        logits.numpy(),
    )


@pytest.fixture
def draw() -> Callable[..., Drawn]:
    """Return a function that builds the network of a model by name and computes its logits."""
    return _draw
