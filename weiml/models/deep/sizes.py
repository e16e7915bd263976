"""One check that many configurations need: sizes of layers are at least 1."""

from __future__ import annotations

from typing import Any

from weiml.errors import ConfigError

__all__ = ["check_sizes"]


def check_sizes(config: Any, *knobs: str) -> None:
    """Check knobs that hold a size or a tuple of sizes.

    Raises:
        ConfigError: a size is below 1; the message names the knob.
    """
    for knob in knobs:
        value = getattr(config, knob)
        if any(size < 1 for size in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f"{knob} must be at least 1, got {value}")
