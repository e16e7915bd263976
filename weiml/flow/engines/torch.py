"""The engine ``torch``: steps that train in this process, seeded, on a given number of threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

from weiml.flow.context import NodeContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.graph import Node

__all__ = ["TorchEngine", "TorchSession"]


@dataclass(frozen=True, kw_only=True)
class TorchSession:
    """What was set for the node."""

    num_threads: int
    previous_threads: int


@register_engine
class TorchEngine(Engine):
    """Options: ``threads`` (default: the cores this process may use), ``seed`` (the flow's)."""

    name = "torch"
    options = {"threads": int, "seed": int}  # noqa: RUF012 - declared ClassVar in the base
    distributions = ("torch", "numpy")

    def open(self, node: Node, context: NodeContext) -> TorchSession:
        """Seed torch and set its threads."""
        import torch

        previous = torch.get_num_threads()
        threads = context.options.get("threads") or len(os.sched_getaffinity(0))
        torch.set_num_threads(threads)
        torch.manual_seed(context.options.get("seed", context.seed))
        return TorchSession(num_threads=threads, previous_threads=previous)

    def close(self, session: TorchSession) -> None:
        """Put the number of threads back."""
        import torch

        torch.set_num_threads(session.previous_threads)
