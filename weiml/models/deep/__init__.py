"""Networks over embeddings. Names that need torch load it when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from weiml.models.deep.config import DeepConfig
from weiml.models.deep.contract import Arrays, DenseNetwork, Gradients
from weiml.models.deep.network_config import NetworkConfig
from weiml.models.deep.network_model import NetworkModel
from weiml.models.deep.shape import InputShape
from weiml.models.deep.sparse import SparseModel

if TYPE_CHECKING:
    from weiml.models.deep.base import DeepModel
    from weiml.models.deep.inputs import Inputs, NetworkShape
    from weiml.models.deep.network import Network, torch_threads

__all__ = [
    "Arrays",
    "DeepConfig",
    "DeepModel",
    "DenseNetwork",
    "Gradients",
    "InputShape",
    "Inputs",
    "Network",
    "NetworkConfig",
    "NetworkModel",
    "NetworkShape",
    "SparseModel",
    "torch_threads",
]

# Name -> module that defines it and loads torch.
_HOMES = {
    "DeepModel": "base",
    "Inputs": "inputs",
    "Network": "network",
    "NetworkShape": "inputs",
    "torch_threads": "network",
}

if not TYPE_CHECKING:  # a type checker shall go by the imports above and find misspellings

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'weiml.models.deep' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"weiml.models.deep.{home}"), name)
        globals()[name] = value
        return value
