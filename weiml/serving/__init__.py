"""WeiServing: prediction engine, model registry, protocol, parameter delivery, online learning."""

from __future__ import annotations

from weiml.serving.app import Endpoint, deploy
from weiml.serving.background import (
    background_status,
    serve_forever,
    start_background,
    stop_background,
)
from weiml.serving.client import Client, InferResult
from weiml.serving.config import ScalingConfig, ServingConfig
from weiml.serving.feeds import FeedConfig, RankedFeeds, rank_feeds
from weiml.serving.online import OnlineLearner, ReplayConfig, ReplayResult, replay
from weiml.serving.params import ParameterHub
from weiml.serving.protocol import InferRequest, Limits, Tensor, parse_request
from weiml.serving.registry import ModelRegistry, ModelVersion
from weiml.serving.servable import Ranking, Scores, Servable
from weiml.serving.updates import Follower, Offer, Update

__all__ = [
    "Client",
    "Endpoint",
    "FeedConfig",
    "Follower",
    "InferRequest",
    "InferResult",
    "Limits",
    "ModelRegistry",
    "ModelVersion",
    "Offer",
    "OnlineLearner",
    "ParameterHub",
    "RankedFeeds",
    "Ranking",
    "ReplayConfig",
    "ReplayResult",
    "ScalingConfig",
    "Scores",
    "Servable",
    "ServingConfig",
    "Tensor",
    "Update",
    "background_status",
    "deploy",
    "parse_request",
    "rank_feeds",
    "replay",
    "serve_forever",
    "start_background",
    "stop_background",
]
