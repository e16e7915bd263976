"""Lengths of time as people write them: ``90s``, ``15m``, ``1h``, ``7d``."""

from __future__ import annotations

import re

from weiml.errors import ConfigError

__all__ = ["milliseconds"]

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(text: str, knob: str, *, least: int = 1) -> int:
    """Return the length of time `text` in ms.

    Args:
        text: a whole number and a unit: ms, s, m, h or d.
        knob: the name of the setting, for the error.
        least: the shortest that is allowed, in ms.

    Raises:
        ConfigError: it is not of that form, or too short.

    Example:
        >>> milliseconds("15m", "size")
        900000
    """
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text) if isinstance(text, str) else None
    if found is None:
        raise ConfigError(
            f"{knob} must be a whole number with a unit of ms, s, m, h or d, such as '15m'; "
            f"got {text!r}"
        )
    length = int(found[1]) * _UNITS[found[2]]
    if length < least:
        raise ConfigError(f"{knob} must be at least {least} ms, got {text!r}")
    return length
