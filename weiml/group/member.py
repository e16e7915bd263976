"""One worker of a group on Ray: a plain class, made an actor when a gang starts.

The actors know nothing of training: they run the functions that they are sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from weiml.group.base import Collective, WorkerContext
from weiml.group.communicator import Communicator, drive
from weiml.group.config import WorkerGroupConfig
from weiml.group.devices import choose_device
from weiml.group.rendezvous import Address, Rendezvous

__all__ = ["GroupWorker", "WorkerInfo", "machine_id"]


class WorkerInfo(NamedTuple):
    """Where a worker runs."""

    rank: int
    pid: int
    host: str
    node: str
    """Ray's id of the node."""
    address: str
    """By which Ray knows the machine."""
    machine: str
    """See `machine_id`."""
    device: str
    """cpu or cuda:0 …"""
    device_name: str
    """As the vendor says it; empty for cpu."""


def machine_id() -> str:
    """Return what processes have in common for which process numbers mean the same."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


class GroupWorker:
    """A worker; one thread calls it."""

    def __init__(self, rank: int, num_workers: int, config: WorkerGroupConfig) -> None:
        self._context = WorkerContext(rank, num_workers)
        self._config = config
        self._communicator = Communicator(rank, num_workers)
        self._rendezvous: Rendezvous | None = None

    def start(self) -> WorkerInfo:
        """Choose the device; say where this worker runs."""
        import ray

        context = ray.get_runtime_context()
        self._context.device = choose_device(context.get_accelerator_ids().get("GPU", []))
        if self._config.threads_per_worker is not None:
            import torch

            torch.set_num_threads(self._config.threads_per_worker)
        return WorkerInfo(
            self._context.rank,
            os.getpid(),
            socket.gethostname(),
            context.get_node_id(),
            str(ray.util.get_node_ip_address()),
            machine_id(),
            self._context.device,
            _name_of(self._context.device),
        )

    def listen(self, node_address: str) -> Address:
        """Open the rendezvous store (rank 0 only); return where."""
        return self._meeting(node_address).listen()

    def join(self, address: Address, backend: str, node_address: str) -> None:
        """Join the process group; returns when all workers have."""
        meeting = self._meeting(node_address)
        self._communicator = meeting.join(address, backend, self._context.device)

    def alive(self) -> int:
        """Return this worker's rank, when it has nothing else to do."""
        return self._context.rank

    def execute(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a function on this worker."""
        return function(self._context, *arguments)

    def run(self, function: Callable[..., Collective], arguments: tuple[Any, ...]) -> Any:
        """Drive a collective function on this worker."""
        return drive(function(self._context, *arguments), self._communicator)

    def _meeting(self, node_address: str) -> Rendezvous:
        if self._rendezvous is None:
            context = self._context
            self._rendezvous = Rendezvous(
                self._config, context.rank, context.num_workers, node_address
            )
        return self._rendezvous


def _name_of(device: str) -> str:
    if device == "cpu":
        return ""
    import torch

    return str(torch.cuda.get_device_name(device))
