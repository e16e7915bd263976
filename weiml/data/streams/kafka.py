"""Events from Kafka topics, by librdkafka (the extra ``kafka``).

Partitions are assigned, not subscribed to: positions come from the stream's own checkpoint, and no
group's rebalancing moves them. The broker is told of saved positions under the group's name only so
that its monitoring shows a lag.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from weiml.data.streams.base import EventSource, Positions, RawEvents, bounds_of, joined
from weiml.data.streams.kafka_client import kafka_client, opened, warn
from weiml.errors import ClusterError, DataError

__all__ = ["KafkaSource"]

log = logging.getLogger(__name__)


class KafkaSource(EventSource):
    """Reads all partitions of some topics. Partitions are named ``TOPIC/NUMBER``.

    Args:
        servers: ``host:port``, several with commas.
        topics: must exist.
        start: where partitions begin that have no position yet.
        on_lost: what to do when the broker has deleted events between a position and the oldest
            that is left: stop with an error, or go on from the oldest, with a warning.
        group: under which saved positions are told to the broker; None tells it nothing.
        keys: whether to read the events' keys.
        options: handed to librdkafka: security, fetch sizes and the like.
        discover_every_s: how often to look for new partitions.
        timeout_s: for questions to the broker.

    Raises:
        ConfigError: the extra ``kafka`` is not installed, an option is unknown.
        ClusterError: no server answers.
        DataError: a topic does not exist.
    """

    def __init__(
        self,
        servers: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"] = "earliest",
        on_lost: Literal["error", "earliest"] = "error",
        group: str | None = None,
        keys: bool = False,
        options: Mapping[str, Any] | None = None,
        discover_every_s: float = 30.0,
        timeout_s: float = 10.0,
    ) -> None:
        self._kafka = kafka_client()
        self._servers = servers
        self._topics = tuple(topics)
        self._start = start
        self._on_lost = on_lost
        self._group = group
        self._with_keys = keys
        self._discover_every_s = discover_every_s
        self._timeout_s = timeout_s
        self._next: dict[str, int] = {}
        self._ends: dict[str, int] = {}  # where the broker said that nothing is left
        self._looked = 0.0
        self._closed = False
        self._consumer = opened(
            self._kafka.Consumer,
            {
                **(options or {}),
                "bootstrap.servers": servers,
                "group.id": group or "weiml",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # never skip what was deleted without a word
                "enable.partition.eof": True,
                "error_cb": warn,
            },
        )
        self._known()

    def partitions(self) -> tuple[str, ...]:
        """See `EventSource.partitions`."""
        return tuple(self._next)

    def seek(self, positions: Positions) -> None:
        """Assign all partitions, each at its position or at `start`."""
        self._consumer.unassign()  # what is being fetched would hold up the questions below
        self._next, self._ends = {}, {}
        for name in self._known():
            at = positions.get(name)
            self._next[name] = self._beginning(name) if at is None else self._checked(name, int(at))
        places = [self._place(name, at) for name, at in self._next.items()]
        self._consumer.assign(places)
        self._looked = time.monotonic()

    def poll(self, max_events: int, timeout_s: float) -> RawEvents:
        """See `EventSource.poll`; begins at `start` if there was no `seek`."""
        if not self._next:
            self.seek({})
        if time.monotonic() - self._looked >= self._discover_every_s:
            self._discover()
        until = time.monotonic() + timeout_s
        while True:
            left = max(until - time.monotonic(), 0.0)
            messages = self._consumer.consume(min(max_events, 1_000_000), min(left, 0.1))
            raw = self._events([message for message in messages if message.error() is None])
            # After the events: an end lies behind them, and behind a transaction's markers.
            self._note([message for message in messages if message.error() is not None])
            if len(raw) or left == 0.0:
                return raw

    def position(self) -> Positions:
        """Return the offset of the next event by partition."""
        return dict(self._next)

    def lag(self) -> dict[str, int]:
        """Return how many offsets lie between positions and what the broker last said it has."""
        lags = {}
        for name, at in self._next.items():
            marks = self._consumer.get_watermark_offsets(self._place(name), cached=True)
            newest = -1 if marks is None else marks[1]
            if self._ends.get(name) == at and newest <= at:
                lags[name] = 0
            else:
                # Where nothing was heard yet something may wait.
                lags[name] = max(newest - at, 0) if newest >= 0 else 1
        return lags

    def saved(self, newest: Positions, oldest: Positions | None) -> None:
        """Tell the broker, if there is a group; it may take its time, and may fail."""
        if self._group is not None:
            offsets = [self._place(name, int(at)) for name, at in newest.items()]
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except self._kafka.KafkaException as error:
                log.warning("positions could not be told to %s: %s", self._servers, error)

    def close(self) -> None:
        """Leave the broker."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def _events(self, messages: list[Any]) -> RawEvents:
        values = [message.value() or b"" for message in messages]
        places = [(message.topic(), message.partition()) for message in messages]
        offsets = np.fromiter((message.offset() for message in messages), np.int64, len(values))
        times = np.fromiter((m.timestamp()[1] for m in messages), np.int64, len(values))
        number = {place: i for i, place in enumerate(dict.fromkeys(places))}
        partition = np.fromiter((number[place] for place in places), np.int32, len(values))
        names = tuple(f"{topic}/{index}" for topic, index in number)
        for i, name in enumerate(names):
            self._next[name] = int(offsets[partition == i][-1]) + 1
        keys = [message.key() for message in messages] if self._with_keys else None
        return RawEvents(
            partitions=names,
            partition=partition,
            offsets=offsets,
            bounds=bounds_of(values),
            data=joined(values),
            times=times,
            keys=None if keys is None else pa.array(keys, pa.binary()),
        )

    def _note(self, messages: list[Any]) -> None:
        """Take in what came instead of events: ends of partitions, and errors."""
        codes = self._kafka.KafkaError
        for message in messages:
            error, name = message.error(), f"{message.topic()}/{message.partition()}"
            if error.code() == codes._PARTITION_EOF:
                self._ends[name] = message.offset()
                self._next[name] = max(self._next[name], message.offset())
            elif error.code() in (codes._AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE):
                self._lost(name, self._next[name], self._oldest(name))
                self._consumer.seek(self._place(name, self._next[name]))
            elif error.retriable() or not error.fatal():
                log.warning("%s: %s", name, error)
            else:
                raise ClusterError(f"{name} at {self._servers} cannot be read: {error}")

    def _discover(self) -> None:
        self._looked = time.monotonic()
        new = [name for name in self._known() if name not in self._next]
        for name in new:
            # It came into being while we read: all of it is new.
            self._next[name] = self._oldest(name)
        if new:
            log.info("new partitions: %s", ", ".join(new))
            places = [self._place(name, self._next[name]) for name in new]
            self._consumer.incremental_assign(places)

    def _known(self) -> list[str]:
        """Return the partitions that the topics have now."""
        names = []
        for topic in self._topics:
            found = self._ask(partial(self._consumer.list_topics, topic, timeout=self._timeout_s))
            told = found.topics.get(topic)
            if told is None or told.error is not None or not told.partitions:
                raise DataError(f"there is no topic {topic!r} at {self._servers}; create it first")
            names += [f"{topic}/{index}" for index in sorted(told.partitions)]
        return names

    def _beginning(self, name: str) -> int:
        low, high = self._marks(name)
        return low if self._start == "earliest" else high

    def _oldest(self, name: str) -> int:
        return self._marks(name)[0]

    def _checked(self, name: str, at: int) -> int:
        """Return the position, or where to go on if events behind it were deleted."""
        self._next[name] = at
        oldest = self._oldest(name)
        if at < oldest:
            self._lost(name, at, oldest)
        return self._next[name]

    def _lost(self, name: str, at: int, oldest: int) -> None:
        text = f"{name}: the broker has no events {at} … {oldest - 1} any more"
        if at >= oldest:
            text = f"{name}: the broker has no event {at}; was the topic made anew?"
        if self._on_lost == "error":
            raise DataError(
                f"{text}. Keep events for longer than the stream may be down, or set "
                f'on_lost="earliest" to go on from the oldest'
            )
        log.warning("%s; going on from %d", text, oldest)
        self._next[name] = oldest

    def _marks(self, name: str) -> tuple[int, int]:
        marks = self._ask(
            lambda: self._consumer.get_watermark_offsets(self._place(name), timeout=self._timeout_s)
        )
        return int(marks[0]), int(marks[1])

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._kafka.KafkaException as error:
            raise ClusterError(
                f"Kafka at {self._servers} does not answer within {self._timeout_s:g} s: {error}"
            ) from None

    def _place(self, name: str, at: int | None = None) -> Any:
        topic, index = name.rsplit("/", 1)
        if at is None:
            return self._kafka.TopicPartition(topic, int(index))
        return self._kafka.TopicPartition(topic, int(index), at)
