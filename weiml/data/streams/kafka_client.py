"""librdkafka by its Python client (the extra ``kafka``), loaded once it is needed."""

from __future__ import annotations

import logging
from typing import Any

from weiml.errors import ConfigError

__all__ = ["kafka_client", "opened", "warn"]

log = logging.getLogger(__name__)


def kafka_client() -> Any:
    """Return the module of the client.

    Raises:
        ConfigError: the extra ``kafka`` is not installed.
    """
    try:
        import confluent_kafka
    except ImportError:
        raise ConfigError("Kafka needs confluent-kafka: pip install 'weiml[kafka]'") from None
    return confluent_kafka


def opened(kind: Any, options: dict[str, Any]) -> Any:
    """Return a consumer or a producer with these options.

    Raises:
        ConfigError: one of them is unknown or of a wrong form.
    """
    try:
        return kind(options)
    except (kafka_client().KafkaException, TypeError, ValueError) as error:
        raise ConfigError(f"Kafka does not take these options: {error}") from None


def warn(error: Any) -> None:
    """Log what librdkafka says of its connections."""
    log.warning("Kafka: %s", error)
