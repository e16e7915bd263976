"""How a worker group is made up: size, backend, resources, placement, timeouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from weiml.errors import ConfigError
from weiml.group.collectives import Compression, check_choice

__all__ = ["Backend", "Placement", "Reduction", "WorkerGroupConfig"]

Backend = Literal["auto", "gloo", "nccl", "none"]
"""auto: nccl where every worker has a GPU of its own, else gloo; none: workers that ask nothing of
each other, and need no torch."""

Reduction = Literal["ordered", "ring"]
"""ordered: exchanged in parts, each summed in rank order, bit-equal to `LocalGroup` on every
transport and device; ring: the backend's own all-reduce, which sums in an order of its own."""

Placement = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
"""Ray's strategies: on few nodes or on many; strict: on one node, or on as many as workers."""


@dataclass(frozen=True, kw_only=True)
class WorkerGroupConfig:
    """A gang of workers: all of them, or none.

    A gang is as large as there is room for, between `min_workers` and `max_workers`.
    """

    num_workers: int = 1
    """The size, unless the next two say that it may differ."""
    min_workers: int | None = None
    """The fewest to go on with when the cluster has shrunk; default `num_workers`."""
    max_workers: int | None = None
    """The most to use when it has grown; default `num_workers`."""
    backend: Backend = "auto"
    reduction: Reduction = "ordered"
    compression: Compression = "none"
    """Of all-reduced float32 gradients; see `Compression`. Sums in rank order, in float32."""
    bucket_bytes: int = 25 * 2**20
    """Longer vectors travel in pieces of so many bytes: one is summed while the next travels."""
    verify: bool = True
    """Compare what the workers ask for before each collective, so that a mistake is an error that
    names it and never a hang or wrong numbers; costs about 0.2 ms a collective on loopback."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float | Literal["auto"] = 0.0
    """auto: one where the cluster has enough for `min_workers`, else none."""
    placement: Placement = "PACK"
    threads_per_worker: int | None = None
    """Of torch in each worker; default: as Ray sets it, by `cpus_per_worker`."""
    interface: str = "loopback"
    """Where the workers listen: loopback (one machine), auto (the one with the address by which Ray
    knows the machine: many machines), or a name such as eth0."""
    start_timeout_s: float = 60.0
    """For finding room, starting and joining."""
    collective_timeout_s: float = 60.0
    """So long a worker waits for the others in a collective."""
    notice_timeout_s: float = 10.0
    """So long a worker's broken connection waits for word of which worker died."""
    max_restarts: int = 0
    """How many failed gangs `Supervisor` replaces."""
    restart_wait_s: float = 1.0
    """Pause before a gang is replaced, doubled each time up to a minute."""

    def __post_init__(self) -> None:
        """Check every knob, and how they fit together."""
        self._check_sizes()
        check_choice("backend", self.backend, get_args(Backend))
        check_choice("reduction", self.reduction, get_args(Reduction))
        check_choice("compression", self.compression, get_args(Compression))
        check_choice("placement", self.placement, get_args(Placement))
        for name in ("start_timeout_s", "collective_timeout_s", "notice_timeout_s"):
            _check_number(name, getattr(self, name), above=0.0)
        _check_number("restart_wait_s", self.restart_wait_s, least=0.0)
        _check_number("max_restarts", self.max_restarts, least=0)
        _check_number("bucket_bytes", self.bucket_bytes, least=1024)
        _check_number("cpus_per_worker", self.cpus_per_worker, least=0.0)
        if self.threads_per_worker is not None:
            _check_number("threads_per_worker", self.threads_per_worker, least=1)
        if not self.interface:
            raise ConfigError("interface must be loopback, auto or a name such as eth0, got ''")
        self._check_gpus()

    @property
    def fewest(self) -> int:
        """The smallest gang."""
        return self.num_workers if self.min_workers is None else self.min_workers

    @property
    def most(self) -> int:
        """The largest gang."""
        return self.num_workers if self.max_workers is None else self.max_workers

    @property
    def is_elastic(self) -> bool:
        """Whether gangs may differ in size."""
        return self.fewest < self.most

    def _check_sizes(self) -> None:
        _check_number("num_workers", self.num_workers, least=1)
        if not 1 <= self.fewest <= self.num_workers <= self.most:
            raise ConfigError(
                "min_workers, num_workers and max_workers must ascend from 1, got "
                f"{self.fewest}, {self.num_workers}, {self.most}"
            )

    def _check_gpus(self) -> None:
        gpus = self.gpus_per_worker
        if isinstance(gpus, str):
            check_choice("gpus_per_worker", gpus, ("auto",))
            return
        _check_number("gpus_per_worker", gpus, least=0.0)
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"gpus_per_worker above 1 must be whole, got {gpus:g}")
        if self.backend == "nccl" and gpus < 1:
            raise ConfigError(
                f"backend='nccl' needs a GPU of its own for every worker, got gpus_per_worker = "
                f"{gpus:g}; set it to 1 or auto, or take backend='auto'"
            )


def _check_number(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf
) -> None:
    bound = f"at least {least:g}" if above == -math.inf else f"above {above:g}"
    if not math.isfinite(value) or value < least or value <= above:
        raise ConfigError(f"{name} must be {bound}, got {value!r}")
