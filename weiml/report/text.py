"""How the report says numbers, times and facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

__all__ = ["FILTERS", "fixed", "number", "package_version", "percent", "seconds", "signed"]

_MISSING = "–"
_NAMES = ("user_id", "user", "id")


def fixed(value: float | None, digits: int = 4) -> str:
    """A metric with a fixed number of digits; a dash for None."""
    return _MISSING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign."""
    return _MISSING if value is None else f"{value:+.{digits}f}".replace("-", "−")


def number(value: Any) -> str:
    """A number as people write it: thousands apart, four significant digits of a fraction."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share in percent, not to be broken."""
    return f"{100 * share:.0f}\u00a0%"


def seconds(value: float | None) -> str:
    """A duration from milliseconds to hours."""
    if value is None:
        return _MISSING
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 99.5:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def package_version(name: str) -> str:
    """Version of an installed distribution; "not installed" for one that is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value)


def _who(user: Mapping[str, Any]) -> str:
    """The heading of a feed: "user 42"."""
    name = next((user[key] for key in _NAMES if key in user), None)
    return "user" if name is None else f"user {name}"


def _about(user: Mapping[str, Any]) -> str:
    """The other facts: "age 24 · occupation technician"."""
    rest = {key: value for key, value in user.items() if key not in _NAMES and value is not None}
    return " · ".join(f"{key.replace('_', ' ')} {_fact(value)}" for key, value in rest.items())


def _seen(genres: Mapping[str, Any]) -> str:
    """The four genres met most: "Drama 43, Comedy 20"."""
    most = sorted(genres.items(), key=lambda pair: -float(pair[1]))[:4]
    return ", ".join(f"{name} {number(count)}" for name, count in most)


FILTERS: dict[str, Callable[..., str]] = {
    "about": _about,
    "fact": _fact,
    "fixed": fixed,
    "number": number,
    "percent": percent,
    "seconds": seconds,
    "seen": _seen,
    "who": _who,
}
