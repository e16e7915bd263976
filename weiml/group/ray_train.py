"""One more way to launch workers: a whole training function under Ray Train's controller.

For functions that run from their start to their end without a driver between the steps. The
controller starts the workers, replaces them when one fails and chooses their number; the
collectives are those of every other group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from weiml.errors import ClusterError, ConfigError, WeimlError
from weiml.group.base import Collective, WorkerContext
from weiml.group.communicator import Communicator, drive
from weiml.group.config import WorkerGroupConfig
from weiml.group.devices import choose_device
from weiml.group.placement import gpus_of
from weiml.group.rendezvous import Rendezvous

__all__ = ["run_on_ray_train"]


def run_on_ray_train(
    function: Callable[..., Collective],
    config: WorkerGroupConfig,
    *arguments: Any,
    storage: str | None = None,
) -> list[Any]:
    """Run ``function(context, *arguments)`` on every worker; return the results in rank order.

    After a worker's failure all workers begin anew, `config.max_restarts` times, with as many
    workers as there is room for: the function resumes from a checkpoint of its own. Inside it,
    `ray.train.report` and `ray.train.get_context` are at hand.

    Args:
        function: a collective function, as for `Group.run`.
        config: size, resources, placement, reduction, collectives. How long to wait for room and
            between restarts is Ray Train's own.
        arguments: handed to every worker.
        storage: where Ray Train keeps what it writes, a path or URL that all workers reach; by
            default a temporary folder, deleted afterwards.

    Raises:
        ClusterError: Ray is not connected, or a worker failed once too often.
        WeimlError: what the function raised, when it is one of weiml's.
    """
    import ray

    if not ray.is_initialized():
        raise ClusterError("run_on_ray_train needs Ray, which is not connected; call ray.init()")
    if storage is not None:
        return _fit(function, config, arguments, storage)
    with tempfile.TemporaryDirectory(prefix="weiml-ray-train-") as folder:
        return _fit(function, config, arguments, folder)


def _fit(
    function: Callable[..., Collective],
    config: WorkerGroupConfig,
    arguments: tuple[Any, ...],
    storage: str,
) -> list[Any]:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    gpus = gpus_of(config)
    resources = {"CPU": config.cpus_per_worker, "GPU": gpus}
    if not any(resources.values()):
        raise ConfigError("run_on_ray_train needs cpus_per_worker or gpus_per_worker above 0")

    def work() -> list[Any]:
        return _work(function, config, arguments)

    # Not TorchTrainer: its process group's store listens on every interface.
    trainer = DataParallelTrainer(
        work,
        scaling_config=ScalingConfig(
            num_workers=(config.fewest, config.most) if config.is_elastic else config.num_workers,
            use_gpu=gpus > 0,
            resources_per_worker={k: v for k, v in resources.items() if v > 0},
            placement_strategy=config.placement,
        ),
        run_config=RunConfig(
            name=f"weiml-{os.getpid()}",
            storage_path=storage,
            failure_config=FailureConfig(max_failures=config.max_restarts),
        ),
    )
    try:
        with _interrupts_kept():
            results: list[Any] = trainer.fit().return_value
    except TrainingFailedError as error:
        raise _cause_of(error) from error
    return results


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Put back the SIGINT handler that Ray Train replaces by its own and leaves there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(
    function: Callable[..., Collective], config: WorkerGroupConfig, arguments: tuple[Any, ...]
) -> list[Any]:
    """Be one worker: join the others, run the function; return all workers' results."""
    import ray
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    own = train.get_context()
    context = WorkerContext(own.get_world_rank(), own.get_world_size())
    context.device = choose_device(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))
    communicator = Communicator(context.rank, context.num_workers)
    joined = config.backend != "none" and context.num_workers > 1
    if joined:
        meeting = Rendezvous(
            config, context.rank, context.num_workers, str(ray.util.get_node_ip_address())
        )
        address = broadcast_from_rank_zero(meeting.listen() if context.rank == 0 else None)
        communicator = meeting.join(address, _backend(config, context.device), context.device)
    result = drive(function(context, *arguments), communicator)
    return _all_results(result, context, joined)


def _backend(config: WorkerGroupConfig, device: str) -> str:
    if config.backend != "auto":
        return config.backend
    return "nccl" if device != "cpu" and gpus_of(config) >= 1 else "gloo"


def _all_results(result: Any, context: WorkerContext, joined: bool) -> list[Any]:
    if not joined:
        return (
            [result] if context.num_workers == 1 else [result, *[None] * (context.num_workers - 1)]
        )
    import torch.distributed as dist

    results: list[Any] = [None] * context.num_workers
    dist.all_gather_object(results, result)
    dist.destroy_process_group()
    return results


def _cause_of(error: Exception) -> WeimlError:
    """Return the function's own error where it is one of weiml's, else a ClusterError."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = getattr(failure, "cause", failure)
        inner = getattr(cause, "__cause__", None) or cause
        for candidate in (failure, cause, inner):
            if isinstance(candidate, WeimlError) and not isinstance(candidate, ClusterError):
                return candidate
    rank, first = next(iter(failures.items()), (None, error))
    who = "Ray Train's controller" if rank is None else f"worker {rank}"
    return ClusterError(
        f"{who} failed, and max_restarts is used up: {' '.join(str(first).split())[:600]}"
    )
