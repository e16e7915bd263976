"""Lengths of time as people write them, ``90s``, ``15m``, ``1h``, ``7d``; windows of them."""

from __future__ import annotations

import re

from weiml.errors import ConfigError

__all__ = ["Window", "milliseconds", "window_name", "window_seconds"]

Window = str | int | None
"""A length of time: text such as ``"1h"``, a number of seconds, or None for any length."""

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


def window_seconds(window: Window) -> int | None:
    """Return the length of a window in seconds, None for any.

    Raises:
        ConfigError: it cannot be read, or has a fraction of a second.
    """
    if window is None or isinstance(window, int):
        return window
    length = milliseconds(window, "a window", least=0)
    if length % 1000:
        raise ConfigError(f"a window must be whole seconds, got {window!r}")
    return length // 1000


def window_name(window: Window) -> str:
    """Return how a window is written in the names of columns; ``all`` for None."""
    return "all" if window is None else f"{window}s" if isinstance(window, int) else window
