"""weiml: a machine-learning platform for ranking feeds, ads and recommendations, on Ray.

The names below are the SDK; each is loaded when it is first used, so that importing weiml
loads no framework and starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> module of weiml that defines it. The function weiml.search.search goes by run_search here:
# as weiml.search it would take the place of the package of that name.
_HOMES = {
    "Batch": "features",
    "BatchDataset": "data",
    "EmbeddedParameterServer": "ps",
    "FeatureEncoder": "features",
    "FeatureSpec": "features",
    "Flow": "flow",
    "ModelRegistry": "serving",
    "Predictor": "models",
    "RayParameterServer": "ps",
    "TrainConfig": "train",
    "Trainer": "train",
    "evaluate_model": "train",
    "fetch": "data",
    "hash_key": "hashing",
    "run_flow": "flow",
    "run_search": "search",
}

__all__ = [
    "Batch",
    "BatchDataset",
    "EmbeddedParameterServer",
    "FeatureEncoder",
    "FeatureSpec",
    "Flow",
    "ModelRegistry",
    "Predictor",
    "RayParameterServer",
    "TrainConfig",
    "Trainer",
    "__version__",
    "evaluate_model",
    "fetch",
    "hash_key",
    "run_flow",
    "run_search",
]

if TYPE_CHECKING:
    from weiml.data import BatchDataset, fetch
    from weiml.features import Batch, FeatureEncoder, FeatureSpec
    from weiml.flow import Flow, run_flow
    from weiml.hashing import hash_key
    from weiml.models import Predictor
    from weiml.ps import EmbeddedParameterServer, RayParameterServer
    from weiml.search import search as run_search
    from weiml.serving import ModelRegistry
    from weiml.train import TrainConfig, Trainer, evaluate_model


if not TYPE_CHECKING:  # a type checker shall go by the imports above and find misspellings

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'weiml' has no attribute {name!r}")
        module = importlib.import_module(f"weiml.{home}")
        value = getattr(module, "search" if name == "run_search" else name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
