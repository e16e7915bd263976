"""Connection of a flow's engines to Ray: the one that runs, or a local one for the run.

Not an engine itself. A Ray that was there before is never shut down.
"""

from __future__ import annotations

import sys

from weiml.cluster import ensure_ray
from weiml.flow.context import NodeContext
from weiml.flow.steps import is_main

__all__ = ["connect_ray"]


def connect_ray(context: NodeContext) -> None:
    """Connect this process to Ray for the run, and let workers unpickle the flow's steps.

    Which Ray, see `weiml.cluster.ensure_ray`; a local one is shut down when the run ends.

    Raises:
        ClusterError: ``RAY_ADDRESS`` cannot be reached, or a local Ray does not start.
    """
    import ray

    if not ray.is_initialized():
        context.progress("connecting to Ray")
        ensure_ray()
        context.scope.at_exit(ray.shutdown)
    _pickle_by_value(context.flow.steps)


def _pickle_by_value(modules: tuple[str, ...]) -> None:
    """Send functions of step modules to workers as code: a worker may not be able to import them.

    weiml itself is importable everywhere, and ``__main__`` goes by value anyway.
    """
    from ray import cloudpickle

    for name in modules:
        outside = name.partition(".")[0] != "weiml"
        if outside and not is_main(name) and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
