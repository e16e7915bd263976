"""One replica of the Serve deployment: routes over a servable that follows the parameter hub.

A plain class; `app.deploy` makes it a deployment. Scoring and updating share one event loop, so
no request sees half an update.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from weiml.config import from_mapping
from weiml.serving.config import ServingConfig
from weiml.serving.protocol import format_error
from weiml.serving.routes import Routes
from weiml.serving.servable import Servable
from weiml.serving.updates import Events, Follower, Offer, Update

__all__ = ["NAMESPACE", "Replica"]

NAMESPACE = "weiml"
_RETRY_S = 1.0  # the hub is gone: a new one is looked for at this interval
_log = logging.getLogger(__name__)


class Replica:
    """Loads its models, catches up with the hub, and answers from then on."""

    async def __init__(self, config: Mapping[str, Any]) -> None:  # type: ignore[misc]
        from ray import serve

        self._config = from_mapping(ServingConfig, config)
        self._name = str(serve.get_replica_context().replica_id.unique_id)
        servable = self._load()
        self._follower = Follower(servable)
        self._hub: Any = None
        self._ask_from = 0
        self._routes = Routes(
            servable,
            self._follower,
            self._publish_events,
            limits=self._config.limits,
            replica=self._name,
        )
        self._metrics = _Metrics(self._routes, self._follower)
        await self._poll(timeout_s=0.0)  # a late replica answers at the newest version at once
        self._routes.ready = True
        self._task = asyncio.create_task(self._follow())

    async def __call__(self, request: Any) -> Any:
        """Answer one HTTP request (starlette's)."""
        from starlette.responses import Response

        limit = self._config.limits.max_body_bytes
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            message = f"the body has {length} bytes, more than limits.max_body_bytes = {limit}"
            return Response(format_error(message), 413, media_type="application/json")
        answer = await self._routes.handle(request.method, request.url.path, await request.body())
        return Response(answer.body, answer.status, media_type="application/json")

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._task.cancel()
            self._hub.leave.remote(self._name)

    def _load(self) -> Servable:
        config = self._config
        servable = Servable.load(config.models, config.view, limits=config.limits)
        servable.warm_up()
        return servable

    async def _follow(self) -> None:
        """Apply what the hub publishes, for ever; without a hub, serve what there is."""
        from ray.exceptions import RayError

        while True:
            try:
                await self._poll(self._config.poll_timeout_s)
            except (RayError, ValueError) as error:  # ValueError: no actor of this name
                _log.warning("no parameter hub, serving on: %s", error)
                self._hub = None
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # Rather the last good parameters than none: staleness tells.
                _log.exception("an update cannot be applied; updates stop, serving goes on")
                return
            self._metrics.flush()

    async def _poll(self, timeout_s: float) -> None:
        if self._hub is None:
            import ray

            self._hub = ray.get_actor(self._config.hub_name, namespace=NAMESPACE)
        update = await self._hub.since.remote(
            self._name,
            self._ask_from,
            epoch=self._follower.epoch,
            pid=os.getpid(),
            timeout_s=timeout_s,
        )
        if update is not None:
            await self._apply(update)

    async def _apply(self, update: Update) -> None:
        offer = self._follower.offer(update)
        if offer is Offer.NEW_EPOCH:
            # Another hub: what was applied from the old one is not in the new one's numbers.
            servable = await asyncio.to_thread(self._load)
            self._routes.servable = servable
            self._follower.reset(servable)
            offer = self._follower.offer(update)
        # -1 is before everything: the hub then sends all it has.
        self._ask_from = -1 if offer is Offer.GAP else self._follower.sequence

    async def _publish_events(self, events: Events) -> int:
        if self._hub is None:
            import ray

            self._hub = ray.get_actor(self._config.hub_name, namespace=NAMESPACE)
        return int(await self._hub.publish.remote(events=events))


class _Metrics:
    """Prometheus metrics by model, brought up to date at each poll and not at each request."""

    def __init__(self, routes: Routes, follower: Follower) -> None:
        from ray.util.metrics import Counter, Gauge

        self._routes = routes
        self._follower = follower
        self._counters = {
            name: Counter(f"weiml_serving_{name}", description=text, tag_keys=("model",))
            for name, text in (
                ("requests", "Inference requests"),
                ("errors", "Inference requests that were refused"),
                ("candidates", "Candidates scored"),
            )
        }
        self._told: dict[tuple[str, str], int] = {}
        self._sequence = Gauge("weiml_serving_sequence", description="Newest update applied")
        self._staleness = Gauge(
            "weiml_serving_staleness_s", description="Age of the newest update", tag_keys=("model",)
        )

    def flush(self) -> None:
        self._sequence.set(self._follower.sequence)
        for model, stats in self._routes.stats.items():
            tags = {"model": model}
            self._staleness.set(self._routes.model_stats(model)["staleness_s"], tags)
            for name, counter in self._counters.items():
                value = int(getattr(stats, name))
                new = value - self._told.get((model, name), 0)
                if new:
                    counter.inc(new, tags)
                    self._told[model, name] = value
