"""The engine ``ray_data``: steps that use Ray Data, with settings for small and large machines."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from weiml.data.ray_settings import ray_data_settings
from weiml.flow.context import NodeContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.engines.ray_cluster import connect_ray
from weiml.flow.graph import Node

__all__ = ["RayDataEngine", "RayDataSession"]


@dataclass(frozen=True, kw_only=True)
class RayDataSession:
    """What a step needs to size its data sets: ``ds.repartition(context.session.num_blocks)``."""

    num_cpus: int
    num_blocks: int
    """How many blocks or partitions to ask for; Ray's own default of 200 is for clusters."""
    settings: ExitStack
    """Puts Ray Data's own settings and log back when closed."""


@register_engine
class RayDataEngine(Engine):
    """Blocks are 2 × CPUs (option ``num_blocks``), rows keep their order, no progress bars.

    What Ray Data logs below a warning goes to its log file only, not between the flow's lines.
    """

    name = "ray_data"
    options = {"num_blocks": int}  # noqa: RUF012 - declared ClassVar in the base
    distributions = ("ray", "pyarrow", "pandas", "polars")

    def open(self, node: Node, context: NodeContext) -> RayDataSession:
        """Connect to Ray and set Ray Data's context.

        Raises:
            ClusterError: Ray cannot be reached.
        """
        connect_ray(context)
        import ray

        num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        num_blocks = context.options.get("num_blocks") or 2 * num_cpus
        settings = ExitStack()
        settings.enter_context(ray_data_settings(num_blocks))
        return RayDataSession(num_cpus=num_cpus, num_blocks=num_blocks, settings=settings)

    def close(self, session: RayDataSession) -> None:
        """Put Ray Data's context back."""
        session.settings.close()
