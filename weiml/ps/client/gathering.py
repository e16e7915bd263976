"""The answers of several shards to one request, put together past buckets that move meanwhile.

It knows the order of rows and parts, neither tables nor transports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.client.conversation import Conversation
from weiml.ps.client.requests import Part, RowRequest
from weiml.ps.shard.shard import Moved
from weiml.ps.wire.sender import Sender

__all__ = ["gather", "partials", "wait_acted", "wait_ticked"]


def wait_ticked(conversation: Conversation, parts: list[Part]) -> int:
    """Wait until all shards took a tick; return what the first counted it as, 0 if it is unknown.

    Raises:
        ParameterServerError: see `wait_acted`.
    """
    wait_acted(conversation, parts)
    first = parts[0]
    while isinstance(first.answer, Moved) and first.replaced:
        first = first.replaced[0]
    number = first.answer
    return number if isinstance(number, int) else 0


def wait_acted(conversation: Conversation, parts: list[Part]) -> None:
    """Wait until a write has acted, wherever its buckets are by then.

    Raises:
        ParameterServerError: the first error of a part; the others have been waited for.
    """
    errors = []
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        try:
            answer = conversation.answer(part)
            if isinstance(answer, Moved):
                conversation.migrate(answer.version)
                waiting += part.replaced or []
        except ParameterServerError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def partials(
    conversation: Conversation, parts: list[Part]
) -> tuple[list[Any], list[np.ndarray | None]]:
    """Return the answers to a read, all of one partition, and the places that each is about."""
    while True:
        answers = [conversation.answer(part) for part in parts]
        moved = [answer.version for answer in answers if isinstance(answer, Moved)]
        if not moved:
            return answers, [part.places for part in parts]
        conversation.migrate(max(moved))
        parts = conversation.send(parts[0].request)


def gather(
    conversation: Conversation,
    sender: Sender,
    parts: list[Part],
    shape: tuple[int, ...],
    fresh: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Return the rows or numbers that a read brings, where they belong: float32 of `shape`.

    ``fresh(keys)`` makes rows that shards left out because they do not have them.
    """
    if len(parts) == 1 and parts[0].places is None and parts[0].order is None:
        answer = conversation.answer(parts[0])
        if not isinstance(answer, Moved) and parts[0].order is None:
            rows = sender.receive(answer, _made(fresh, parts[0]))
            return rows if rows.flags.writeable else rows.copy()
    out = np.empty(shape, np.float32)
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        answer = conversation.answer(part)
        if isinstance(answer, Moved):
            before = conversation.partition
            conversation.migrate(answer.version)
            waiting += conversation.send_again(part, before)
        else:
            out[_places(part)] = sender.receive(answer, _made(fresh, part))
    return out


def _places(part: Part) -> Any:
    """Return where the rows that a part brings belong."""
    if part.order is None:
        return slice(None) if part.places is None else part.places
    return part.order if part.places is None else part.places[part.order]


def _made(fresh: Callable[[np.ndarray], np.ndarray] | None, part: Part) -> Any:
    """Return how to make the rows at some places of a part's answer."""
    request = part.request
    if fresh is None or not isinstance(request, RowRequest):
        return None
    return lambda places: fresh(request.keys[_places(part)][places])
