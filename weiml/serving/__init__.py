"""WeiServing: prediction engine, model registry, protocol, parameter delivery, online learning."""

from __future__ import annotations

from weiml.serving.app import Endpoint, deploy
from weiml.serving.client import Client, InferResult
from weiml.serving.config import ScalingConfig, ServingConfig
from weiml.serving.params import ParameterHub
from weiml.serving.protocol import InferRequest, Limits, Tensor, parse_request
from weiml.serving.registry import ModelRegistry, ModelVersion
from weiml.serving.servable import Ranking, Scores, Servable
from weiml.serving.updates import Follower, Offer, Update

__all__ = [
    "Client",
    "Endpoint",
    "Follower",
    "InferRequest",
    "InferResult",
    "Limits",
    "ModelRegistry",
    "ModelVersion",
    "Offer",
    "ParameterHub",
    "Ranking",
    "ScalingConfig",
    "Scores",
    "Servable",
    "ServingConfig",
    "Tensor",
    "Update",
    "deploy",
    "parse_request",
]
