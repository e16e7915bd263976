"""Lengths of time as they are written: ``"90s"``, ``"30m"``, ``"1h"``, ``"7d"``."""

from __future__ import annotations

import re

from weiml.errors import ConfigError

__all__ = ["Window", "window_name", "window_seconds"]

Window = str | int | None
"""A length of time: text such as ``"1h"``, a number of seconds, or None for any length."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def window_seconds(window: Window) -> int | None:
    """Return a length in seconds.

    Raises:
        ConfigError: it cannot be read.
    """
    if window is None or (isinstance(window, int) and not isinstance(window, bool)):
        return window
    parsed = re.fullmatch(r"(\d+)([smhd])", window) if isinstance(window, str) else None
    if parsed is None:
        raise ConfigError(
            f"a length of time is a number of seconds or text such as 90s, 30m, 1h or 7d, got "
            f"{window!r}"
        )
    return int(parsed[1]) * _UNITS[parsed[2]]


def window_name(window: Window) -> str:
    """Return how a length is written in the names of columns; ``all`` for None."""
    return "all" if window is None else f"{window}s" if isinstance(window, int) else window
