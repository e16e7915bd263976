"""ONNX: networks exported to it, and graphs of anyone's scored like other models."""

from __future__ import annotations

from weiml.models.onnx.config import OnnxConfig, OnnxInput
from weiml.models.onnx.export import export_network, export_onnx, save_onnx
from weiml.models.onnx.model import OnnxModel

__all__ = [
    "OnnxConfig",
    "OnnxInput",
    "OnnxModel",
    "export_network",
    "export_onnx",
    "save_onnx",
]
