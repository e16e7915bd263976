"""How the workers find each other: network interfaces, a store on one of them, the process group.

It knows no Ray: any set of processes that can tell each other an address can join.
"""

from __future__ import annotations

import datetime
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

from weiml.errors import ClusterError
from weiml.group.communicator import Communicator
from weiml.group.config import WorkerGroupConfig
from weiml.group.exchange import Exchange

__all__ = ["Address", "Rendezvous", "interface_address", "interface_name"]

Address = tuple[str, int]
"""Host and port of the store."""

_LOOPBACK = "127.0.0.1"
_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


def interface_address(name: str) -> str:
    """Return the IPv4 address of an interface of this machine.

    Raises:
        ClusterError: there is no such interface, or it has no address.
    """
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", name.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            known = ", ".join(known for _, known in socket.if_nameindex())
            raise ClusterError(
                f"interface {name!r} has no IPv4 address on {socket.gethostname()}; it has {known}"
            ) from None
    return socket.inet_ntoa(answer[20:24])


def interface_name(address: str) -> str:
    """Return the interface of this machine that has an IPv4 address.

    Raises:
        ClusterError: none has.
    """
    for _, name in socket.if_nameindex():
        try:
            if interface_address(name) == address:
                return name
        except (ClusterError, OSError):
            continue
    raise ClusterError(f"no interface of {socket.gethostname()} has the address {address}")


@dataclass
class Rendezvous:
    """One worker's way into the process group.

    Args:
        config: interface, backend, reduction, timeouts.
        rank: of this worker.
        num_workers: of the gang.
        node_address: by which Ray knows this machine.
    """

    config: WorkerGroupConfig
    rank: int
    num_workers: int
    node_address: str = _LOOPBACK

    def __post_init__(self) -> None:
        """Nothing is open yet."""
        self._store: Any = None

    def listen(self) -> Address:
        """Open the store on a free port (rank 0 only); return where."""
        from torch._C._distributed_c10d import TCPStore

        host, _ = self._interface()
        listener = socket.create_server((host, 0))
        port = int(listener.getsockname()[1])
        # The store would listen on every interface; handing it a socket keeps it on one.
        self._store = TCPStore(
            host,
            port,
            self.num_workers,
            is_master=True,
            wait_for_workers=False,
            timeout=datetime.timedelta(seconds=self.config.start_timeout_s),
            master_listen_fd=listener.detach(),
        )
        return host, port

    def join(self, address: Address, backend: str, device: str) -> Communicator:
        """Join the process group; returns when all workers have.

        Args:
            address: of the store.
            backend: "gloo" or "nccl".
            device: "cpu", or "cuda:i", which is current.
        """
        control = None
        try:
            self._init(address, backend, device)
            if self.config.verify:
                control = Exchange(self.num_workers, "gloo", process_group=self._new_control())
            self._limit_collectives(control)
        except RuntimeError as error:
            raise ClusterError(
                f"worker {self.rank} of {self.num_workers} could not join the others over "
                f"{backend} at {address[0]} (interface = {self.config.interface!r}) within "
                f"start_timeout_s = {self.config.start_timeout_s:g} s: {error}"
            ) from error
        exchange = Exchange(
            self.num_workers,
            backend,
            reduction=self.config.reduction,
            bucket_bytes=self.config.bucket_bytes,
        )
        return Communicator(
            self.rank,
            self.num_workers,
            exchange,
            control=control,
            device=device if backend == "nccl" else "cpu",
            compression=self.config.compression,
            timeout_s=self.config.collective_timeout_s,
        )

    def _init(self, address: Address, backend: str, device: str) -> None:
        _, name = self._interface()
        os.environ["GLOO_SOCKET_IFNAME"] = name
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
        import torch
        import torch.distributed as dist

        dist.init_process_group(
            backend,
            store=self._store or self._connect(address),
            rank=self.rank,
            world_size=self.num_workers,
            timeout=datetime.timedelta(seconds=self.config.start_timeout_s),
            device_id=torch.device(device) if backend == "nccl" else None,
        )

    def _new_control(self) -> Any:
        import torch.distributed as dist

        limit = datetime.timedelta(seconds=self.config.start_timeout_s)
        return dist.new_group(backend="gloo", timeout=limit)

    def _limit_collectives(self, control: Exchange | None) -> None:
        """Let the timeout of joining give way to that of collectives."""
        from torch.distributed.distributed_c10d import _set_pg_timeout

        limit = datetime.timedelta(seconds=self.config.collective_timeout_s)
        for group in [None] if control is None else [None, control.process_group]:
            _set_pg_timeout(limit, group)

    def _connect(self, address: Address) -> Any:
        from torch._C._distributed_c10d import TCPStore

        limit = datetime.timedelta(seconds=self.config.start_timeout_s)
        return TCPStore(address[0], address[1], self.num_workers, is_master=False, timeout=limit)

    def _interface(self) -> tuple[str, str]:
        """Return address and name of the interface to use."""
        wanted = self.config.interface
        if wanted == "loopback":
            return _LOOPBACK, interface_name(_LOOPBACK)
        if wanted == "auto":
            return self.node_address, interface_name(self.node_address)
        return interface_address(wanted), wanted
