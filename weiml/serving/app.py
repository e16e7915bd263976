"""Deploys models on Ray Serve, with the parameter hub beside them, and ends all of it again."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from weiml.cluster import start_ray
from weiml.config import to_mapping
from weiml.errors import ClusterError
from weiml.ps import Delta
from weiml.serving.config import ServingConfig
from weiml.serving.params import ParameterHub
from weiml.serving.processes import wait_gone
from weiml.serving.replica import NAMESPACE, Replica
from weiml.serving.updates import Events

__all__ = ["Endpoint", "check_port", "deploy", "start_hub"]

_DEPLOYMENT = "ranker"
_CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")  # Serve's name and namespace of its controller


@dataclass(frozen=True, kw_only=True)
class _Owned:
    """What `deploy` started itself and so what `Endpoint.shutdown` ends."""

    ray: bool
    serve: bool


class Endpoint:
    """A running endpoint. A context manager: leaving it shuts the endpoint down.

    Publishing is for one training process at a time; the other methods may be called by any.
    """

    def __init__(self, config: ServingConfig, hub: Any, owned: _Owned) -> None:
        self.config = config
        self.url = config.url
        self._hub = hub
        self._owned = owned
        self._closed = False

    def publish(
        self, deltas: Mapping[str, Delta] | None = None, events: Events | None = None
    ) -> int:
        """Send parameters by model, or events, to all replicas; returns the update's number.

        Raises:
            ParameterServerError: a model is not served here.
            ClusterError: the hub is gone.
        """
        return int(self._ask(self._hub.publish.remote(deltas, events)))

    def wait_for(self, sequence: int, *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait until all replicas answer at update `sequence`.

        Returns:
            The `status`, with ``seconds`` of waiting.

        Raises:
            ClusterError: they do not within `timeout_s`; the message says where each one is.
        """
        status = self._ask(self._hub.wait_for.remote(sequence, timeout_s=timeout_s))
        if not status["reached"]:
            at = {name: replica["sequence"] for name, replica in status["replicas"].items()}
            raise ClusterError(
                f"not all replicas answer at update {sequence} after timeout_s = {timeout_s:g}: "
                f"{at or 'no replica is alive'}"
            )
        return dict(status)

    def reset(self, *, timeout_s: float = 60.0) -> None:
        """Take all replicas back to their snapshot, without a restart: a new hub, from 0.

        Raises:
            ClusterError: they are not there within `timeout_s`.
        """
        count = len(self.status()["replicas"])
        self._hub = start_hub(self.config)
        status = self._ask(self._hub.wait_for.remote(0, timeout_s=timeout_s, replicas=count))
        if not status["reached"]:
            raise ClusterError(
                f"{len(status['replicas'])} of {count} replicas are back at their snapshot after "
                f"timeout_s = {timeout_s:g}"
            )

    def status(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Return the hub's newest update and, by replica, its update and pid."""
        return dict(self._ask(self._hub.status.remote(), timeout_s))

    def shutdown(self) -> None:
        """End replicas, hub, and what `deploy` started of Serve and Ray; idempotent.

        Raises:
            ClusterError: a process is still there after ``stop_timeout_s``.
        """
        import ray
        from ray import serve

        if self._closed or not ray.is_initialized():
            return
        self._closed = True
        pids: list[int] = []
        with contextlib.suppress(ClusterError):
            status = self.status(self.config.stop_timeout_s)
            pids = [status["pid"], *(replica["pid"] for replica in status["replicas"].values())]
        left: list[int] = []
        try:
            with _quiet():
                if self._owned.serve:
                    _stop_serve(self.config.stop_timeout_s)
                else:
                    serve.delete(self.config.app)
        finally:  # whatever became of Serve, hub and Ray do not stay
            ray.kill(self._hub)
            left = wait_gone(pids, self.config.stop_timeout_s)
            if self._owned.ray:
                ray.shutdown()
        if left:
            raise ClusterError(
                f"processes {left} have not ended within stop_timeout_s = "
                f"{self.config.stop_timeout_s:g}"
            )

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _ask(self, reference: Any, timeout_s: float | None = None) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

        try:
            return ray.get(reference, timeout=timeout_s)
        except GetTimeoutError:
            raise ClusterError(
                f"the parameter hub {self.config.hub_name!r} does not answer within "
                f"stop_timeout_s = {timeout_s:g}"
            ) from None
        except RayActorError as error:
            raise ClusterError(
                f"the parameter hub {self.config.hub_name!r} is gone ({error}); deploy again"
            ) from None
        except RayTaskError as error:
            raise error.cause from None


def deploy(config: ServingConfig) -> Endpoint:
    """Bring an endpoint up on the connected Ray, or on a local one; returns when it answers.

    A Serve that runs already in the Ray is used if it listens on the configured port; everything
    that this call started is ended again if it fails.

    Raises:
        ConfigError: a folder is missing.
        ClusterError: the port is taken, or the replicas do not come up.
    """
    import ray

    config.check_folders()
    running = _running_serve_port() if ray.is_initialized() else None
    if running is None:
        check_port(config.host, config.port)
    elif running != config.port:
        raise ClusterError(
            f"Serve already runs in this Ray on port {running}: set port = {running}, or shut it "
            f"down first (got port = {config.port})"
        )
    owned = _Owned(ray=not ray.is_initialized(), serve=running is None)
    endpoint: Endpoint | None = None
    try:
        if owned.ray:
            start_ray()
        endpoint = Endpoint(config, start_hub(config), owned)
        with _quiet():
            _run(config)
        return endpoint
    except BaseException:
        if endpoint is not None:
            endpoint.shutdown()
        elif owned.ray:
            ray.shutdown()
        raise


def start_hub(config: ServingConfig) -> Any:
    """Start the parameter hub of an application, in place of an earlier one; returns the actor.

    Replicas find it by its name; those of an earlier hub go back to their snapshot first.
    """
    import ray

    deadline = time.monotonic() + config.stop_timeout_s
    with contextlib.suppress(ValueError):  # no actor of this name
        while time.monotonic() < deadline:
            # Killing takes a moment, and until then the name is taken.
            ray.kill(ray.get_actor(config.hub_name, namespace=NAMESPACE))
            time.sleep(0.05)
        raise ClusterError(f"the parameter hub {config.hub_name!r} cannot be ended; restart Ray")
    actor = ray.remote(ParameterHub).options(
        name=config.hub_name,
        namespace=NAMESPACE,
        lifetime="detached",  # as long as the Serve application, which is detached too
        num_cpus=0,
        max_concurrency=1000,  # each replica has a question waiting most of the time
    )
    return actor.remote(list(config.models), log_size=config.log_size)


def check_port(host: str, port: int) -> None:
    """Find out whether a port is free.

    Raises:
        ClusterError: it is taken, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            what = "in use" if error.errno == errno.EADDRINUSE else f"not usable ({error})"
            raise ClusterError(
                f"port {port} on {host} is {what}: choose another with port = … (--port), or stop "
                "what listens there"
            ) from None


def _run(config: ServingConfig) -> None:
    from ray import serve
    from ray.serve.config import AutoscalingConfig

    logging_config = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": config.host, "port": config.port},
        logging_config=logging_config,
    )
    scaling = config.scaling
    deployment = serve.deployment(
        Replica,
        name=_DEPLOYMENT,
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            target_ongoing_requests=scaling.target_ongoing_requests,
            upscale_delay_s=scaling.upscale_delay_s,
            downscale_delay_s=scaling.downscale_delay_s,
            look_back_period_s=scaling.look_back_period_s,
        ),
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": config.num_cpus},
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5.0,
        logging_config=logging_config,
    )
    target = serve.RunTarget(
        deployment.bind(to_mapping(config)),
        name=config.app,
        route_prefix="/",
        logging_config=logging_config,
    )
    serve.run_many([target], wait_for_applications_running=False)
    _wait_running(config)


def _wait_running(config: ServingConfig) -> None:
    from ray import serve

    deadline = time.monotonic() + config.start_timeout_s
    while True:
        status = serve.status().applications.get(config.app)
        state = "unknown" if status is None else status.status.value
        if state == "RUNNING":
            return
        if state in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ClusterError(f"replicas of {config.app!r} do not come up: {_reason(status)}")
        if time.monotonic() > deadline:
            raise ClusterError(
                f"replicas of {config.app!r} are not up after start_timeout_s = "
                f"{config.start_timeout_s:g}: {_reason(status) or state}; is there room for "
                f"num_cpus = {config.num_cpus:g} each in this Ray?"
            )
        time.sleep(0.1)


def _stop_serve(timeout_s: float) -> None:
    """Shut Serve down.

    ``serve.shutdown`` waits on a call to the controller that dies with it, and Ray then prints
    an error on the driver's stdout; so the controller is told first, in a call that returns.
    """
    import ray
    from ray import serve
    from ray.exceptions import GetTimeoutError, RayActorError

    deadline = time.monotonic() + timeout_s
    # The controller is gone, or never came up.
    with contextlib.suppress(ValueError, RayActorError, GetTimeoutError):
        controller = ray.get_actor(_CONTROLLER[0], namespace=_CONTROLLER[1])
        ray.get(controller.graceful_shutdown.remote(wait=False), timeout=timeout_s)
        while time.monotonic() < deadline:
            time.sleep(0.05)
            ray.get_actor(_CONTROLLER[0], namespace=_CONTROLLER[1])
    serve.shutdown()  # forgets the connection; and ends what is left, if the above did not


def _reason(status: Any) -> str:
    """Return what a replica failed with, or else what Serve says of the application."""
    messages = [status.message] if status is not None else []
    if status is not None:
        messages += [deployment.message for deployment in status.deployments.values()]
    lines = [line.strip() for message in messages for line in message.splitlines()]
    raised = [line for line in lines if line.startswith("weiml.errors.")]
    return raised[-1].partition(": ")[2] if raised else " ".join(lines)[-500:]


def _running_serve_port() -> int | None:
    """Return the port of the Serve that runs in the connected Ray, if any."""
    import ray
    from ray.serve.context import _get_global_client  # no public way tells the port

    try:
        ray.get_actor(_CONTROLLER[0], namespace=_CONTROLLER[1])
    except ValueError:
        return None
    client = _get_global_client(raise_if_no_controller_running=False)
    return None if client is None else int(client.http_config.port)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Serve's notes on starting and stopping off the screen; errors are raised."""
    import ray.serve  # noqa: F401 - its import sets the level, so it goes first

    logger = logging.getLogger("ray.serve")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
