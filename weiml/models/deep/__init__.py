"""Networks over embeddings. Importing this loads torch; `weiml.models` does so when it must."""

from __future__ import annotations

from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.network import Network, torch_threads
from weiml.models.deep.network_config import NetworkConfig
from weiml.models.deep.network_model import NetworkModel

__all__ = [
    "DeepConfig",
    "DeepModel",
    "Inputs",
    "Network",
    "NetworkConfig",
    "NetworkModel",
    "NetworkShape",
    "torch_threads",
]
