"""The engine ``tensorflow``: a node's steps run in a Ray worker process of their own.

TensorFlow takes seconds to import and keeps its threads and memory; here they end with the node,
and the process of the flow never imports it.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.errors import ClusterError, FlowError
from weiml.flow.context import NodeContext, StepContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.engines.ray_cluster import connect_ray
from weiml.flow.graph import Flow, Node, Step
from weiml.flow.steps import StepFunction

__all__ = ["RemoteValue", "StepWorker", "TensorFlowEngine", "TensorFlowSession"]

_POLL_S = 0.25  # how often progress is fetched from the worker
_EXIT_S = 10.0  # a killed worker is gone after milliseconds; this is for a machine under load


@dataclass(frozen=True, kw_only=True)
class RemoteValue:
    """Stands in the driver for a step's value that stays in the worker (a model, a data set)."""

    step: str


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """A step's context without what belongs to the driver's process; can be pickled."""

    flow: Flow
    node: Node
    step: Step
    params: Mapping[str, Any]
    scratch_dir: Path
    folder: Path | None


class StepWorker:
    """Runs the steps of one node in its process and keeps their values.

    ``run`` and ``messages`` are called from two threads; appending to a list is atomic.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._seeded = False
        self._values: dict[str, Any] = {}
        self._messages: list[tuple[str, float | None, float | None]] = []

    def pid(self) -> int:
        """The worker's process id."""
        return os.getpid()

    def run(self, function: Any, call: StepCall, values: Sequence[Any]) -> dict[str, Any]:
        """Run one step; returns what it reported."""
        self._seed_all()
        local = [self._values[v.step] if isinstance(v, RemoteValue) else v for v in values]
        context = StepContext(
            flow=call.flow,
            node=call.node,
            step=call.step,
            params=call.params,
            session=self,
            scratch_dir=call.scratch_dir,
            folder=call.folder,
            progress=self._note,
        )
        self._values[call.step.name] = function(context, *local, **call.params)
        return context.reports

    def messages(self) -> list[tuple[str, float | None, float | None]]:
        """Progress since the last call."""
        taken, self._messages = self._messages, []
        return taken

    def _note(self, text: str, done: float | None = None, total: float | None = None) -> None:
        self._messages.append((text, done, total))

    def _seed_all(self) -> None:
        if not self._seeded:
            import keras

            keras.utils.set_random_seed(self._seed)
            self._seeded = True


@dataclass(frozen=True, kw_only=True)
class TensorFlowSession:
    """The worker of the node."""

    worker: Any
    pid: int


@register_engine
class TensorFlowEngine(Engine):
    """Option: ``cpus``, how many of Ray's CPUs the worker holds (1)."""

    name = "tensorflow"
    options = {"cpus": int}  # noqa: RUF012 - declared ClassVar in the base
    distributions = ("tensorflow", "tensorflow-cpu", "keras", "ray")

    def open(self, node: Node, context: NodeContext) -> TensorFlowSession:
        """Start the worker.

        Raises:
            FlowError: TensorFlow is not installed.
            ClusterError: Ray cannot be reached, or has not as many CPUs.
        """
        for module in ("tensorflow", "keras"):
            if importlib.util.find_spec(module) is None:
                raise FlowError(
                    f"{node.position}: node {node.id!r} runs on the engine 'tensorflow', but "
                    f'{module} is not installed; run: pip install "weiml[tensorflow]"'
                )
        connect_ray(context)
        import ray

        cpus = context.options.get("cpus", 1)
        have = ray.cluster_resources().get("CPU", 0)
        if cpus > have:
            raise ClusterError(f"node {node.id!r} asks for cpus={cpus}, but Ray has {have:g}")
        worker = (
            ray.remote(StepWorker)
            .options(
                num_cpus=cpus,
                max_concurrency=2,  # one thread for the step, one to ask for its progress
                runtime_env={
                    "env_vars": {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
                },
            )
            .remote(context.seed)
        )
        try:
            return TensorFlowSession(worker=worker, pid=ray.get(worker.pid.remote()))
        except BaseException:
            ray.kill(worker)
            raise

    def run_step(
        self,
        session: TensorFlowSession,
        function: StepFunction,
        context: StepContext,
        values: Sequence[Any],
    ) -> RemoteValue:
        """Run the step in the worker, showing its progress here."""
        import ray

        call = StepCall(
            flow=context.flow,
            node=context.node,
            step=context.step,
            params=context.params,
            scratch_dir=context.scratch_dir,
            folder=context.folder,
        )
        result = session.worker.run.remote(function.function, call, list(values))
        ready: list[Any] = []
        while not ready:
            ready, _ = ray.wait([result], timeout=_POLL_S)
            for message in ray.get(session.worker.messages.remote()):
                context.progress(*message)
        try:
            context.reports.update(ray.get(result))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from error
        return RemoteValue(step=context.step.name)

    def close(self, session: TensorFlowSession) -> None:
        """Kill the worker and see its process gone."""
        import ray

        ray.kill(session.worker)
        deadline = time.monotonic() + _EXIT_S
        while _alive(session.pid):
            if time.monotonic() > deadline:
                raise ClusterError(f"the TensorFlow worker, process {session.pid}, does not end")
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    """Whether a process of this machine runs; on another machine Ray's word has to do."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
