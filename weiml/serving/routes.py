"""The HTTP interface of a replica without HTTP: (method, path, body) to (status, body).

Knows nothing of Ray. Routes are those of the Open Inference Protocol v2, plus statistics of a
model and feedback events.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import weiml
from weiml.config import nearest
from weiml.errors import RequestError, WeimlError
from weiml.serving.events import parse_events
from weiml.serving.protocol import Limits, format_error, format_response, parse_request
from weiml.serving.servable import Servable
from weiml.serving.stats import RequestStats
from weiml.serving.updates import Events, Follower

__all__ = ["Answer", "Routes"]

_MODEL = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>infer|ready|stats))?"
)
_FIXED = {
    "/v2": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/events": "POST",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A status and a JSON body."""

    status: int
    body: bytes


class _RefusedError(Exception):
    """Ends a request with a status other than 400."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Routes:
    """Answers requests on one event loop; scoring runs on it too, so answers are never mixed.

    Args:
        servable: scores.
        follower: what has been applied to the servable so far.
        publish_events: hands feedback events to the hub, and so to all replicas; returns their
            sequence number.
        replica: name of this replica, carried by each answer.
    """

    def __init__(
        self,
        servable: Servable,
        follower: Follower,
        publish_events: Callable[[Events], Awaitable[int]],
        *,
        limits: Limits | None = None,
        replica: str = "local",
    ) -> None:
        self.servable = servable
        self.ready = False
        self.stats: Mapping[str, RequestStats] = {m: RequestStats() for m in servable.models}
        self._follower = follower
        self._publish_events = publish_events
        self._limits = limits or Limits()
        self._replica = replica
        self._started_at = time.time()

    async def handle(self, method: str, path: str, body: bytes) -> Answer:
        """Answer one request; whatever it holds, the result is an answer, never an exception."""
        try:
            return await self._dispatch(method, path.rstrip("/"), body)
        except _RefusedError as refusal:
            return Answer(refusal.status, format_error(str(refusal)))
        except RequestError as error:
            return Answer(400, format_error(str(error)))
        except WeimlError as error:
            return Answer(503, format_error(str(error)))
        except Exception:
            _log.exception("cannot answer %s %s", method, path)
            return Answer(500, format_error("internal error; see the replica's log"))

    async def _dispatch(self, method: str, path: str, body: bytes) -> Answer:
        if path in _FIXED:
            _check_method(method, _FIXED[path], path)
            if path == "/v2/events":
                return await self._events(body)
            return self._server(path)
        match = _MODEL.fullmatch(path)
        if match is None:
            raise _RefusedError(404, f"no route {path!r}; see GET /v2 and GET /v2/models/NAME")
        model, verb = match["model"], match["verb"]
        self._check_model(model, match["version"])
        _check_method(method, "POST" if verb == "infer" else "GET", path)
        if verb == "infer":
            return self._infer(model, body)
        if verb == "ready":
            return Answer(200 if self.ready else 503, b"{}")
        return _json(self.model_stats(model) if verb == "stats" else self.servable.describe(model))

    def _server(self, path: str) -> Answer:
        if path == "/v2":
            extensions = ["model_statistics", "feedback_events"]
            return _json(
                {"name": "weiml", "version": weiml.__version__, "extensions": extensions}
                | {"models": list(self.servable.models)}
            )
        if path == "/v2/health/ready" and not self.ready:
            return Answer(503, format_error("the replica is not ready yet"))
        return _json({"ready" if path.endswith("ready") else "live": True})

    def _infer(self, model: str, body: bytes) -> Answer:
        start = time.perf_counter()
        stats = self.stats[model]
        try:
            request = parse_request(body, self._limits)
            version, outputs = self.servable.infer(model, request)
        except RequestError:
            stats.failed()
            raise
        answer = format_response(
            model_name=model,
            model_version=version,
            outputs=outputs,
            request_id=request.id,
            parameters={"sequence": self._follower.sequence, "replica": self._replica},
        )
        candidates = next(iter(request.inputs["item_id"].shape))
        stats.answered(time.perf_counter() - start, candidates)
        return Answer(200, answer)

    async def _events(self, body: bytes) -> Answer:
        events = parse_events(body, self._limits)
        self.servable.check_events(events)
        sequence = await self._publish_events(events)
        count = len(next(iter(events.values())))
        return Answer(202, json.dumps({"accepted": count, "sequence": sequence}).encode())

    def model_stats(self, model: str) -> dict[str, Any]:
        """Return version, freshness, counts and latency of a model on this replica.

        ``staleness_s``: since the newest update that is applied here was published (since the
        start, where there is none). ``delivery_ms``: from its publication to its application.
        """
        follower = self._follower
        newest = follower.published_at or self._started_at
        delivery = (follower.applied_at - follower.published_at) * 1e3
        return {
            "model_name": model,
            "model_version": self.servable.version(model),
            "sequence": follower.sequence,
            "staleness_s": time.time() - newest,
            "delivery_ms": delivery if follower.sequence else None,
            "replica": self._replica,
            **self.stats[model].summary(),
        }

    def _check_model(self, model: str, version: str | None) -> None:
        if model not in self.servable.models:
            raise _RefusedError(404, f"no model {model!r}{nearest(model, self.servable.models)}")
        if version is None:
            return
        now = self.servable.version(model)
        if version not in (now, now.rpartition(".")[0]):
            raise _RefusedError(
                404, f"model {model!r} has no version {version!r} loaded; it has {now}"
            )


def _check_method(method: str, wanted: str, path: str) -> None:
    if method != wanted:
        raise _RefusedError(405, f"{path} takes {wanted}, got {method}")


def _json(tree: Mapping[str, Any]) -> Answer:
    return Answer(200, json.dumps(tree).encode())
