"""Engines: what the steps of a node run on. Importing this package registers those of weiml.flow.

None of them imports what it runs on (Ray, torch, TensorFlow) before a node opens it.
"""

from __future__ import annotations

from weiml.flow.engines.base import Engine, find_engine, list_engines, register_engine
from weiml.flow.engines.ps import ParameterServerEngine, ParameterServerSession
from weiml.flow.engines.python import PythonEngine
from weiml.flow.engines.ray_cluster import connect_ray
from weiml.flow.engines.ray_data import RayDataEngine, RayDataSession
from weiml.flow.engines.shell import ShellEngine, ShellSession
from weiml.flow.engines.tensorflow import TensorFlowEngine
from weiml.flow.engines.torch import TorchEngine, TorchSession

__all__ = [
    "Engine",
    "ParameterServerEngine",
    "ParameterServerSession",
    "PythonEngine",
    "RayDataEngine",
    "RayDataSession",
    "ShellEngine",
    "ShellSession",
    "TensorFlowEngine",
    "TorchEngine",
    "TorchSession",
    "connect_ray",
    "find_engine",
    "list_engines",
    "register_engine",
]
