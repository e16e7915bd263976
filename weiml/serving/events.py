"""Feedback events in JSON: what a user did with an item, checked, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weiml.config import nearest
from weiml.errors import RequestError
from weiml.serving.protocol import Limits, parse_json
from weiml.serving.updates import Events

__all__ = ["parse_events"]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "user_id": (int, str),
    "item_id": (int, str),
    "timestamp": (int,),
    "rating": (int, float),
}


def parse_events(body: bytes, limits: Limits | None = None) -> Events:
    """Parse ``{"events": [{"user_id", "item_id", "timestamp", "rating"}, …]}`` into columns.

    Raises:
        RequestError: anything is wrong; the message names the event and the field.
    """
    limits = limits or Limits()
    tree = parse_json(body, limits)
    events = tree.get("events")
    if not isinstance(events, list) or not events or set(tree) != {"events"}:
        raise RequestError('send {"events": [{"user_id": ..., "item_id": ..., ...}, ...]}')
    if len(events) > limits.max_candidates:
        raise RequestError(
            f"{len(events)} events are more than limits.max_candidates = {limits.max_candidates}"
        )
    for index, event in enumerate(events):
        _check(event, f"events[{index}]")
    return {name: [event[name] for event in events] for name in _TYPES}


def _check(event: Any, where: str) -> None:
    if not isinstance(event, dict):
        raise RequestError(f"{where} must be an object with {', '.join(_TYPES)}")
    for key in event:
        if key not in _TYPES:
            raise RequestError(f"{where}: unknown field {key!r}{nearest(key, _TYPES)}")
    for name, kinds in _TYPES.items():
        if name not in event:
            raise RequestError(f"{where}: {name!r} is missing")
        value = event[name]
        if isinstance(value, bool) or not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise RequestError(f"{where}: {name!r} must be {wanted}, got {_short(value)}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise RequestError(f"{where}: {name!r} does not fit 64 bits")


def _short(value: Any) -> str:
    return repr(value)[:80] if isinstance(value, (str, float, bool)) else type(value).__name__
