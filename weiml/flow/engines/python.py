"""The engine ``python``: steps run in the process of the flow, with nothing around them."""

from __future__ import annotations

from weiml.flow.context import NodeContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.graph import Node

__all__ = ["PythonEngine"]


@register_engine
class PythonEngine(Engine):
    """No session; for work that needs no Ray.

    weiml's own steps compute with these distributions, whatever the engine is called.
    """

    name = "python"
    distributions = ("numba", "numpy", "pyarrow", "torch")

    def open(self, node: Node, context: NodeContext) -> None:
        """Nothing to open."""

    def close(self, session: None) -> None:
        """Nothing to close."""
