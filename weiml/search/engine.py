"""The flow engine ``tune``: nodes whose steps run searches on Ray Tune."""

from __future__ import annotations

from dataclasses import dataclass

from weiml.flow import Engine, Node, NodeContext, connect_ray, register_engine

__all__ = ["TuneEngine", "TuneSession"]


@dataclass(frozen=True, kw_only=True)
class TuneSession:
    """What a search step is told by its node."""

    concurrency: int | None
    """Trials at a time at most; None: as many as Ray has cores for."""


@register_engine
class TuneEngine(Engine):
    """Connects to Ray; a search cleans up its own trials. Option ``concurrency``."""

    name = "tune"
    options = {"concurrency": int}  # noqa: RUF012 - declared ClassVar in the base
    distributions = ("ray", "optuna", "torch", "numba")

    def open(self, node: Node, context: NodeContext) -> TuneSession:
        """Connect to Ray.

        Raises:
            ClusterError: Ray cannot be reached.
        """
        connect_ray(context)
        return TuneSession(concurrency=context.options.get("concurrency"))

    def close(self, session: TuneSession) -> None:
        """Nothing is left to release."""
