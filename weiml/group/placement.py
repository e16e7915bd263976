"""Room for a gang: one placement group, all or nothing, as large as fits within the bounds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from weiml.errors import ClusterError
from weiml.group.config import WorkerGroupConfig

__all__ = ["Room", "find_room", "fitting", "free_by_node", "gpus_of", "room_for"]

_SETTLE_S = 2.0  # what a gang held before is free again so long after its end
_POLL_S = 0.05


class Room:
    """Where a gang may start. `release` gives it back."""

    def __init__(self, size: int, resources: Mapping[str, float], group: Any) -> None:
        self.size = size
        self._resources = dict(resources)
        self._group = group

    def options(self, rank: int) -> dict[str, Any]:
        """Return the actor options of a worker."""
        options = {
            "num_cpus": self._resources.get("CPU", 0),
            "num_gpus": self._resources.get("GPU", 0),
        }
        if self._group is None:
            return options
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=rank)
        return {**options, "scheduling_strategy": strategy}

    def release(self) -> None:
        """Give the room back; whatever still runs in it is ended by Ray. Idempotent."""
        if self._group is None:
            return
        import ray

        ray.util.remove_placement_group(self._group)
        self._group = None


def find_room(config: WorkerGroupConfig) -> Room:
    """Wait for room for the largest gang that fits.

    Raises:
        ClusterError: there is none for the smallest within `start_timeout_s`.
    """
    resources = _resources(config)
    if not resources:  # nothing to reserve: they fit anywhere
        return Room(config.most, resources, None)
    deadline = time.monotonic() + config.start_timeout_s
    group: Any = None
    size = room_for(config) if config.is_elastic else config.most
    if config.fewest < size:
        patience = (deadline - time.monotonic()) / 2  # others may have been faster
        group = _reserve(config, resources, size, patience)
    if group is None:
        # Ray brings up nodes for what waits, where it can.
        size = config.fewest
        group = _reserve(config, resources, size, deadline - time.monotonic())
    if group is None:
        raise _no_room(config, resources)
    return Room(size, resources, group)


def room_for(config: WorkerGroupConfig, *, held: Sequence[str] = (), wait: bool = True) -> int:
    """Return how many workers there is room for now, at most ``config.most``.

    Args:
        config: what each takes, and how they are placed.
        held: the nodes of workers like these whose room counts as free, one entry each.
        wait: give what ended just now two seconds to be free again, while there is not room for
            all.
    """
    deadline = time.monotonic() + (_SETTLE_S if wait else 0.0)
    while True:
        free = free_by_node()
        for node in held:
            for kind, amount in _resources(config).items():
                free.setdefault(node, {})
                free[node][kind] = free[node].get(kind, 0.0) + amount
        size = min(fitting(config, free), config.most)
        if size == config.most or time.monotonic() >= deadline:
            return size
        time.sleep(_POLL_S)


def fitting(config: WorkerGroupConfig, free: Mapping[str, Mapping[str, float]]) -> int:
    """Return how many workers fit into what is free on each node, by the placement strategy."""
    needed = _resources(config)
    if not needed:
        return config.most
    by_node = [
        min(int(node.get(kind, 0.0) / amount + 1e-9) for kind, amount in needed.items())
        for node in free.values()
    ]
    if config.placement == "STRICT_PACK":
        return max(by_node, default=0)
    if config.placement == "STRICT_SPREAD":
        return sum(1 for number in by_node if number)
    return sum(by_node)


def free_by_node() -> dict[str, dict[str, float]]:
    """Return the free resources of each node that is up, by its id."""
    import ray
    from ray._private.state import available_resources_per_node

    up = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return {node: free for node, free in available_resources_per_node().items() if node in up}


def gpus_of(config: WorkerGroupConfig) -> float:
    """Return the GPUs of each worker, "auto" decided by what the cluster has."""
    if isinstance(config.gpus_per_worker, str):
        import ray

        return float(ray.cluster_resources().get("GPU", 0.0) >= config.fewest)
    return config.gpus_per_worker


def _resources(config: WorkerGroupConfig) -> dict[str, float]:
    wanted = {"CPU": config.cpus_per_worker, "GPU": gpus_of(config)}
    return {kind: amount for kind, amount in wanted.items() if amount > 0}


def _reserve(
    config: WorkerGroupConfig, resources: dict[str, float], size: int, patience_s: float
) -> Any:
    """Return a placement group that is there, or None if it does not come in time."""
    import ray

    group = ray.util.placement_group([dict(resources)] * size, strategy=config.placement)
    try:
        ready, _ = ray.wait([group.ready()], timeout=max(patience_s, 0.0), fetch_local=False)
    except BaseException:
        ray.util.remove_placement_group(group)
        raise
    if ready:
        return group
    ray.util.remove_placement_group(group)
    return None


def _no_room(config: WorkerGroupConfig, resources: Mapping[str, float]) -> ClusterError:
    import ray

    has, free = ray.cluster_resources(), ray.available_resources()
    each = ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
    there = ", ".join(
        f"{has.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind in resources
    )
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return ClusterError(
        f"no room for a gang of {config.fewest} workers with {each} each, placed {config.placement}"
        f", within start_timeout_s = {config.start_timeout_s:g} s; the cluster has {there} on "
        f"{nodes} node{'s' if nodes != 1 else ''}. Ask for fewer workers (num_workers, "
        "min_workers) or less for each (cpus_per_worker, gpus_per_worker), or free some"
    )
