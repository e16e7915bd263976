"""Settings of a stream's run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from weiml.data.durations import milliseconds
from weiml.errors import ConfigError

__all__ = ["StreamConfig"]


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How events are read, timed, counted once and checkpointed; lengths of time as ``90s``."""

    name: str = "stream"
    """In log lines and metrics."""
    time: str
    """The column of event time, before and after the operations."""
    time_unit: Literal["s", "ms", "us", "ns"] = "ms"
    """The unit of that column if it holds integers."""
    lateness: str = "1m"
    """How far out of order the events of one partition may come; later ones are late and only
    given in the stream ``late``. Results wait so long."""
    idle: str = "30s"
    """A partition without events for so long, and without any waiting, holds up nothing."""
    max_ahead: str | None = "1d"
    """An event whose time lies so far after it came is bad: it would make all others late."""
    id: str | None = None
    """A column of event ids (strings or integers): an event whose id came before is dropped.
    Events without one count, each, and are told as ``without_id``; declare the column
    ``nullable=False`` in the decoder's schema to set them aside instead."""
    id_horizon: str = "0ms"
    """How long behind their partition's clock ids are remembered; below the clock events are late
    anyway, so this is for ids that come again with a later time."""
    batch_events: int = 1 << 16
    """Most events of a step."""
    poll_s: float = 0.5
    """How long a step waits for events."""
    checkpoint_every: str = "10s"
    """Results become visible, and progress lasting, at most so long after they are there."""
    checkpoint_events: int = 2_000_000
    """A checkpoint is taken after so many events at the latest."""
    keep_checkpoints: int = 3
    give_events: bool = False
    """Give the events themselves, after the operations, as the stream ``events``."""
    give_late: bool = True
    """Give late events, as they were decoded, as the stream ``late``."""
    log_every: str = "10s"
    """How often progress is logged."""

    def __post_init__(self) -> None:
        for knob in ("lateness", "id_horizon"):
            milliseconds(getattr(self, knob), knob, least=0)
        for knob in ("idle", "checkpoint_every", "log_every"):
            milliseconds(getattr(self, knob), knob)
        if self.max_ahead is not None:
            milliseconds(self.max_ahead, "max_ahead")
        for knob in ("batch_events", "checkpoint_events", "keep_checkpoints"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        if not self.poll_s >= 0:
            raise ConfigError(f"poll_s must be at least 0, got {self.poll_s}")
        if self.time_unit not in ("s", "ms", "us", "ns"):
            raise ConfigError(f"time_unit must be s, ms, us or ns, got {self.time_unit!r}")
