"""Results to Kafka topics, by librdkafka (the extra ``kafka``)."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from weiml.data.streams.base import Sink
from weiml.data.streams.kafka_client import kafka_client, opened, warn
from weiml.errors import ClusterError, DataError

__all__ = ["KafkaSink"]


class KafkaSink(Sink):
    """Writes results as JSON objects, one message a row; all are acknowledged or it raises.

    Each message has the headers ``stream`` and ``id`` = ``RUN/NUMBER/STREAM/ROW``. A checkpoint's
    rows that are sent again have the ids that they had: consumers drop those they know. NaN and
    infinite numbers, which JSON does not have, become null.

    Args:
        servers: ``host:port``, several with commas.
        topics: by stream; streams that are not named are not sent.
        key: a column whose text is the messages' key.
        options: handed to librdkafka.
        timeout_s: for all of a checkpoint to be acknowledged.

    Raises:
        ConfigError: the extra ``kafka`` is not installed, an option is unknown.
    """

    def __init__(
        self,
        servers: str,
        topics: Mapping[str, str],
        *,
        key: str | None = None,
        options: Mapping[str, Any] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._servers = servers
        self._topics = dict(topics)
        self._key = key
        self._timeout_s = timeout_s
        self._failed: list[str] = []
        self._run = ""
        self._producer = opened(
            kafka_client().Producer,
            {
                "linger.ms": 20,
                "message.timeout.ms": int(timeout_s * 1000),
                **(options or {}),
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "error_cb": warn,
            },
        )

    def begin(self, number: int, run: str) -> None:
        """Hear which run the results are of."""
        self._run = run

    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Send all rows and wait until they are acknowledged.

        Raises:
            ClusterError: a message was not acknowledged in time.
            DataError: a value has no JSON form.
        """
        self._failed.clear()
        for stream, table in tables.items():
            if stream in self._topics:
                self._send(number, stream, table)
        left = self._producer.flush(self._timeout_s)
        if left or self._failed:
            why = self._failed[0] if self._failed else f"no answer within {self._timeout_s:g} s"
            self._producer.purge()
            raise ClusterError(
                f"{left + len(self._failed)} results of checkpoint {number} were not acknowledged "
                f"by Kafka at {self._servers}: {why}. They are sent again when the stream goes on"
            )

    def close(self) -> None:
        """Wait for what was sent."""
        self._producer.flush(self._timeout_s)

    def _send(self, number: int, stream: str, table: pa.Table) -> None:
        for i, row in enumerate(table.to_pylist()):
            value = _as_json(row)
            key = None if self._key is None or row.get(self._key) is None else str(row[self._key])
            headers = {"stream": stream, "id": f"{self._run}/{number}/{stream}/{i}"}
            self._produce(self._topics[stream], value, key, headers)

    def _produce(self, topic: str, value: bytes, key: str | None, headers: dict[str, str]) -> None:
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    topic, value=value, key=key, headers=headers, on_delivery=self._delivered
                )
            except BufferError:
                if time.monotonic() >= until:
                    raise ClusterError(f"Kafka at {self._servers} takes no more messages") from None
                self._producer.poll(0.1)
                continue
            self._producer.poll(0)
            return

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(str(error))


def _as_json(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, default=_plain, allow_nan=False).encode()
    except DataError:
        raise
    except ValueError:
        return json.dumps(_finite(row), default=_plain, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    """Return a value with None in place of numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise DataError(f"{value!r} has no JSON form: cast its column before it goes to Kafka")
