"""Configuration of an endpoint: what it serves, where it listens and how it scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from weiml.errors import ConfigError
from weiml.serving.protocol import Limits

__all__ = ["ScalingConfig", "ServingConfig"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Ray Serve's autoscaling, with delays short enough for bursts of traffic."""

    min_replicas: int = 1
    max_replicas: int = 2
    target_ongoing_requests: float = 4.0
    """Requests at once on a replica, scored or waiting, that scaling aims at."""
    upscale_delay_s: float = 2.0
    downscale_delay_s: float = 30.0
    look_back_period_s: float = 11.0
    """Load is averaged over this time; Serve collects it every 10 s by default, so not below."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ConfigError(
                "scaling.min_replicas must lie between 1 and scaling.max_replicas = "
                f"{self.max_replicas}, got {self.min_replicas}"
            )
        if self.target_ongoing_requests <= 0:
            raise ConfigError(
                "scaling.target_ongoing_requests must be above 0, "
                f"got {self.target_ongoing_requests}"
            )
        for name in ("upscale_delay_s", "downscale_delay_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"scaling.{name} must be 0 or more, got {getattr(self, name)}")
        if self.look_back_period_s <= 0:
            raise ConfigError(
                f"scaling.look_back_period_s must be above 0, got {self.look_back_period_s}"
            )


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """One endpoint: models by name, collocated in each replica, over one feature view."""

    models: Mapping[str, str]
    """Folder of each model, by the name in its URL."""
    view: str | None = None
    """Folder of the feature view; None if clients send every raw column."""
    app: str = "weiml"
    """Name of the application, and of its parameter hub, in the cluster."""
    host: str = "127.0.0.1"
    port: int = 8000
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    limits: Limits = field(default_factory=Limits)
    max_ongoing_requests: int = 16
    """Requests that a replica takes at once; others wait in the proxy."""
    max_queued_requests: int = 64
    """Requests that wait in the proxy; beyond it the answer is 503 at once."""
    num_cpus: float = 0.1
    """CPUs that a replica reserves in Ray."""
    log_size: int = 64
    """Updates that the hub keeps one by one; older ones are merged."""
    poll_timeout_s: float = 3.0
    """How long a replica's question to the hub waits for news."""
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models must name at least one model, such as feed = 'runs/model'")
        for name, folder in self.models.items():
            if not name or "/" in name or not isinstance(folder, str):
                raise ConfigError(
                    f"models must map names without '/' or '.' to folders, got {name!r}: {folder!r}"
                )
        if self.host not in _LOOPBACK:
            raise ConfigError(
                f"host must be loopback ({', '.join(_LOOPBACK)}), got {self.host!r}: the endpoint "
                "has no authentication; put a proxy that has one in front of it"
            )
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"port must lie in 1 … 65535, got {self.port}")
        for name in ("max_ongoing_requests", "max_queued_requests", "log_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_cpus", "poll_timeout_s", "start_timeout_s", "stop_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def url(self) -> str:
        """Where the endpoint answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def hub_name(self) -> str:
        """Name of the parameter hub's actor."""
        return f"{self.app}-hub"

    def check_folders(self) -> None:
        """Find missing folders before anything is started.

        Raises:
            ConfigError: a model or the view is not there.
        """
        folders = {f"models.{name}": folder for name, folder in self.models.items()}
        if self.view is not None:
            folders["view"] = self.view
        for knob, folder in folders.items():
            if not Path(folder).is_dir():
                raise ConfigError(f"{knob} = {folder!r} is not a folder")
