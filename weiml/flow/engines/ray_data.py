"""The engine ``ray_data``: steps that use Ray Data, with settings for small and large machines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from weiml.flow.context import NodeContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.engines.ray_cluster import connect_ray
from weiml.flow.graph import Node

__all__ = ["RayDataEngine", "RayDataSession"]

_MIB = 1024**2
# A flow's own actors may hold all CPUs for a while; and we switch the bars off ourselves.
_EXPECTED = ("does not have any available CPUs", "Progress bars disabled")


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
        from ray.data import DataContext

        num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        num_blocks = context.options.get("num_blocks") or 2 * num_cpus
        changed = DataContext.get_current().copy()
        changed.enable_progress_bars = False
        changed.print_on_execution_start = False
        changed.default_hash_shuffle_parallelism = num_blocks
        changed.read_op_min_num_blocks = num_blocks
        changed.shuffle_input_batch_bytes = 64 * _MIB
        changed.execution_options.preserve_order = True  # the same input gives the same files
        settings = ExitStack()
        settings.enter_context(DataContext.current(changed))
        settings.enter_context(_quiet())
        return RayDataSession(num_cpus=num_cpus, num_blocks=num_blocks, settings=settings)

    def close(self, session: RayDataSession) -> None:
        """Put Ray Data's context back."""
        session.settings.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's notes on its executions off the screen; its log file gets them all."""
    console = [h for h in logging.getLogger("ray.data").handlers if h.get_name() == "console"]
    for handler in console:
        handler.addFilter(_is_news)
    try:
        yield
    finally:
        for handler in console:
            handler.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return record.levelno >= logging.WARNING and not any(known in text for known in _EXPECTED)
