"""The HTTP side of an event receiver: requests to lines of the log, refusals to statuses."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from weiml.data.streams.event_log import EventLog
from weiml.errors import DataError, RequestError

if TYPE_CHECKING:
    from weiml.data.streams.http import ReceiverConfig

__all__ = ["http_app"]


def http_app(events: EventLog, config: ReceiverConfig) -> Starlette:
    """Return the application that appends what is posted to `events`."""

    async def take(request: Request) -> JSONResponse:
        if config.token is not None and not _is_allowed(request, config.token):
            return _refusal(401, "a valid token is needed: Authorization: Bearer TOKEN")
        size = request.headers.get("content-length", "")
        if size.isdecimal() and int(size) > config.max_body_bytes:
            return _too_large(config)
        if not events.has_room(int(size) if size.isdecimal() else 0):
            return _no_room(events, config)
        try:
            async with asyncio.timeout(config.read_s):
                body = await _body(request, config.max_body_bytes)
        except TimeoutError:
            return _refusal(408, f"the body did not come within read_s = {config.read_s:g}")
        if body is None:
            return _too_large(config)
        try:
            lines = _lines(body, request.headers.get("content-type", ""), config.max_event_bytes)
        except RequestError as error:
            return _refusal(400, str(error))
        return await _keep(events, lines, config)

    async def health(request: Request) -> JSONResponse:
        told = {"pending_bytes": events.pending_bytes, "log_bytes": events.log_bytes}
        if events.error is not None:
            return JSONResponse({"status": "failing", "error": events.error, **told}, 503)
        if not events.has_room(0):
            return JSONResponse({"status": "full", **told}, 503)
        return JSONResponse({"status": "ok", **told})

    return Starlette(
        routes=[
            Route("/events", take, methods=["POST"]),
            Route("/healthz", health, methods=["GET"]),
        ]
    )


async def _keep(events: EventLog, lines: list[bytes], config: ReceiverConfig) -> JSONResponse:
    data = b"".join(lines)
    if not lines:
        return JSONResponse({"accepted": 0})
    if not events.has_room(len(data)):
        return _no_room(events, config)
    try:
        await asyncio.wrap_future(events.append(data))
    except DataError as error:
        return _refusal(503, str(error), config.retry_after_s)
    return JSONResponse({"accepted": len(lines)})


async def _body(request: Request, at_most: int) -> bytes | None:
    """Return the body; None if it is larger than allowed."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > at_most:
            return None
        parts.append(part)
    return b"".join(parts)


def _lines(body: bytes, content_type: str, longest: int) -> list[bytes]:
    """Return the events of a body as lines.

    Raises:
        RequestError: one of them is no JSON object, or too long.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/x-ndjson", "application/jsonl", "application/x-jsonlines"):
        texts = [line.strip() for line in body.split(b"\n")]
        lines = []
        for i, text in enumerate(texts, 1):
            if text:
                _parsed(text, f"line {i}", dict)
                lines.append(text.replace(b"\r", b" ") + b"\n")
    else:
        tree = _parsed(body, "the body", (dict, list))
        if isinstance(tree, dict) and isinstance(tree.get("events"), list):
            tree = tree["events"]
        events = [tree] if isinstance(tree, dict) else tree
        for i, event in enumerate(events, 1):
            if not isinstance(event, dict):
                raise RequestError(f"event {i} is no JSON object")
        lines = [json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events]
    for i, line in enumerate(lines, 1):
        if len(line) > longest:
            raise RequestError(f"event {i} is longer than max_event_bytes = {longest}")
    return lines


def _parsed(text: bytes, what: str, kinds: type | tuple[type, ...]) -> Any:
    try:
        # As text: of bytes it would take UTF-16 and byte order marks, which the decoder refuses.
        tree = json.loads(text.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{what} is not JSON: {error}") from None
    if not isinstance(tree, kinds):
        raise RequestError(f"{what} is no JSON object")
    return tree


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is larger than any float64")
    return number


def _is_allowed(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _refusal(status: int, text: str, retry_after_s: int | None = None) -> JSONResponse:
    headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return JSONResponse({"error": text}, status, headers)


def _too_large(config: ReceiverConfig) -> JSONResponse:
    return _refusal(413, f"the body is larger than max_body_bytes = {config.max_body_bytes}")


def _no_room(events: EventLog, config: ReceiverConfig) -> JSONResponse:
    text = (
        f"no room: {events.pending_bytes} bytes wait for the disk (max_pending_bytes = "
        f"{config.max_pending_bytes}), {events.log_bytes} for the log's reader (max_log_bytes = "
        f"{config.max_log_bytes})"
    )
    return _refusal(503, text, config.retry_after_s)
