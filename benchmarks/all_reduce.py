"""All-reduce of float32 arrays by two workers on gloo, by size: ordered, ring, and torch itself.

    python -m benchmarks.all_reduce [--quick]

The peer is a plain ``torch.distributed.all_reduce`` in two processes of torch.multiprocessing, in
place and without any check. All take turns on one machine over loopback; ours run on Ray, compare
what the workers ask for before each collective, copy the array, and give a mean.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import ray
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch._C._distributed_c10d import TCPStore

from benchmarks.harness import Case, run
from weiml.cluster import start_ray
from weiml.group import Collective, WorkerContext, WorkerGroup, WorkerGroupConfig

SIZES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22, 1 << 24, 1 << 26)
WAYS: dict[str, dict[str, Any]] = {
    "ordered": {"reduction": "ordered"},
    "ring": {"reduction": "ring"},
    "ordered, not verified": {"reduction": "ordered", "verify": False},
    "bfloat16": {"compression": "bfloat16"},
}


def timed(context: WorkerContext, size: int, rounds: int) -> Collective:
    """Return the seconds of each all-reduce, and whether the mean was right."""
    array = np.full(size // 4, context.rank, np.float32)
    seconds = []
    right = True
    for _ in range(rounds + 1):  # the first warms up
        begin = time.perf_counter()
        mean = yield array
        seconds.append(time.perf_counter() - begin)
        right &= bool((mean == np.float32(0.5)).all())
    return seconds[1:], right


def peer(rank: int, port: int, orders: Connection) -> None:
    """Be one process of the peer: answer (size, rounds) by seconds until None comes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", port, 2, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    while (order := orders.recv()) is not None:
        size, rounds = order
        tensor = torch.zeros(size // 4)
        seconds = []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            dist.all_reduce(tensor)
            seconds.append(time.perf_counter() - begin)
        orders.send(seconds[1:])
    dist.destroy_process_group()


@contextlib.contextmanager
def peers() -> Iterator[list[Connection]]:
    """Start the peer's processes; give the ends to order them by."""
    context = mp.get_context("spawn")
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    store = TCPStore(  # kept: it is the others' meeting place
        "127.0.0.1",
        port,
        2,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=peer, args=(r, port, pipes[r][1])) for r in range(2)]
    for process in processes:
        process.start()
    try:
        yield [ours for ours, _ in pipes]
        for ours, _ in pipes:
            ours.send(None)
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()
        del store


def rounds_of(size: int, quick: bool) -> int:
    """Return how often to time a size within one turn."""
    return max(3, min(200, (1 << 24) // size) // (4 if quick else 1))


def cases(quick: bool) -> Iterator[Case]:
    """Compare at each size, all in turns."""
    start_ray(num_cpus=2)
    try:
        with contextlib.ExitStack() as stack:
            groups = {
                way: stack.enter_context(
                    WorkerGroup.start(
                        WorkerGroupConfig(
                            num_workers=2, cpus_per_worker=0, threads_per_worker=1, **knobs
                        )
                    )
                )
                for way, knobs in WAYS.items()
            }
            ends = stack.enter_context(peers())
            for size in SIZES[:: 2 if quick else 1]:
                yield from compare(groups, ends, size, rounds_of(size, quick), 2 if quick else 5)
    finally:
        ray.shutdown()


def compare(
    groups: dict[str, WorkerGroup], ends: list[Connection], size: int, rounds: int, turns: int
) -> Iterator[Case]:
    """Time all ways at one size."""
    seconds: dict[str, list[float]] = {way: [] for way in (*groups, "torch")}
    right = dict.fromkeys(groups, True)
    for turn in range(turns):
        for way in list(seconds) if turn % 2 else reversed(list(seconds)):
            if way == "torch":
                for end in ends:
                    end.send((size, rounds))
                seconds[way] += max((end.recv() for end in ends), key=statistics.median)
                continue
            answers = groups[way].run(timed, size, rounds)
            right[way] &= all(good for _, good in answers)
            seconds[way] += max((times for times, _ in answers), key=statistics.median)
    theirs = statistics.median(seconds["torch"])
    for way in groups:
        ours = statistics.median(seconds[way])
        yield Case(
            case=f"{way}, {size:,} bytes",
            value=size / ours / 1e9,
            unit="GB/s",
            peer="torch.distributed.all_reduce",
            peer_value=size / theirs / 1e9,
            goal="the right mean",
            holds=right[way],
            quality=f"median {ours * 1e6:,.0f} µs, peer {theirs * 1e6:,.0f} µs",
            regime="2 workers, gloo on loopback, one thread each",
            n=turns * rounds,
        )


def main() -> None:
    """Run the benchmark."""
    run("all_reduce", cases)


if __name__ == "__main__":
    main()
