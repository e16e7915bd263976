from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tests.data.streams.conftest import send
from weiml.data.streams import (
    Count,
    JsonDecoder,
    KafkaSink,
    KafkaSource,
    MemorySink,
    PartFiles,
    RawEvents,
    StreamConfig,
    WindowConfig,
    Windows,
    run_stream,
)
from weiml.errors import ClusterError, ConfigError, DataError


def read(source: KafkaSource, n: int) -> RawEvents:
    parts, until = list[RawEvents](), time.monotonic() + 20
    while sum(map(len, parts)) < n:
        assert time.monotonic() < until, f"{sum(map(len, parts))} of {n} events came"
        parts.append(source.poll(n, 0.2))
    return RawEvents.concat(parts)


def has_read(n: int, status: dict[str, Any]) -> bool:
    return bool(status["events"] >= n)


def places(raw: RawEvents) -> list[tuple[str, int, bytes]]:
    return sorted(
        (raw.partitions[raw.partition[i]], int(raw.offsets[i]), raw.value(i))
        for i in range(len(raw))
    )


def test_events_of_all_partitions_and_seeking_back(
    broker: str, topic: Callable[[int], str]
) -> None:
    name = topic(3)
    for partition in range(3):
        send(broker, name, [b"%d-%d" % (partition, i) for i in range(20)], partition)
    with KafkaSource(broker, [name], keys=True) as source:
        source.seek({})
        assert set(source.lag().values()) != {0}
        first = read(source, 60)
        assert places(first) == [
            (f"{name}/{p}", i, b"%d-%d" % (p, i)) for p in range(3) for i in range(20)
        ]
        assert first.keys is not None
        assert {first.key(i) for i in range(60)} == {b"0", b"1", b"2"}
        assert abs(int(first.times[0]) - time.time() * 1e3) < 600_000
        assert source.position() == {f"{name}/{p}": 20 for p in range(3)}
        until = time.monotonic() + 20
        while any(source.lag().values()):
            assert time.monotonic() < until
            assert not len(source.poll(10, 0.1))
        source.seek({f"{name}/1": 15, f"{name}/0": 20, f"{name}/2": 20})
        again = read(source, 5)
        assert [place[1] for place in places(again)] == [15, 16, 17, 18, 19]
        send(broker, name, [b"more"], 2)
        assert places(read(source, 1)) == [(f"{name}/2", 20, b"more")]


def test_values_may_be_empty_and_hold_anything(broker: str, topic: Callable[[int], str]) -> None:
    name = topic(1)
    values = [b"", b"\n", b"a\nb\n", bytes(range(256))]
    send(broker, name, values)
    with KafkaSource(broker, [name]) as source:
        raw = read(source, 4)
    assert [raw.value(i) for i in range(4)] == values
    assert raw.keys is None


def test_a_position_before_the_oldest_event_is_an_error(
    broker: str, topic: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The broker of the tests deletes nothing: it is made to look so.
    name = topic(1)
    monkeypatch.setattr(KafkaSource, "_oldest", lambda self, name: 7)
    with KafkaSource(broker, [name]) as source, pytest.raises(DataError, match="no events 3 … 6"):
        source.seek({f"{name}/0": 3})
    with KafkaSource(broker, [name], on_lost="earliest") as source:
        source.seek({f"{name}/0": 3})
        assert source.position() == {f"{name}/0": 7}


def test_results_come_back_as_events(broker: str, topic: Callable[[int], str]) -> None:
    name = topic(1)
    sink = KafkaSink(broker, {"ctr": name}, key="item")
    table = pa.table({"item": [1, 2], "at": pa.array([0, 1], pa.timestamp("ms"))})
    sink.write(4, {"ctr": table, "other": table})
    with pytest.raises(DataError, match="cast"):
        sink.write(5, {"ctr": pa.table({"raw": [b"\xff"]})})
    sink.close()
    with KafkaSource(broker, [name], keys=True) as source:
        raw = read(source, 2)
        assert [raw.key(i) for i in range(2)] == [b"1", b"2"]
        assert json.loads(raw.value(1)) == {"item": 2, "at": "1970-01-01T00:00:00.001000"}


def test_a_stream_goes_on_where_its_checkpoint_ends(
    broker: str, topic: Callable[[int], str], tmp_path: Path
) -> None:
    name = topic(2)
    schema = pa.schema([("item", pa.int64()), pa.field("time", pa.int64(), nullable=False)])
    settings = StreamConfig(time="time", lateness="0ms", max_ahead=None, poll_s=0.1)
    sink = PartFiles(tmp_path / "out")
    for round_ in range(3):
        for partition in range(2):
            events = [{"item": i % 5, "time": 1000 * round_ + i} for i in range(100)]
            send(broker, name, [json.dumps(event).encode() for event in events], partition)
        windows = Windows(
            WindowConfig(name="counts", keys=("item",), measures=(Count("n"),), sizes=("1s",))
        )
        status = run_stream(
            KafkaSource(broker, [name], group="test"),
            JsonDecoder(schema=schema),
            settings,
            checkpoint_dir=tmp_path / "checkpoints",
            operators=[windows],
            sink=sink,
            until=partial(has_read, 200 * (round_ + 1)),
        )
        assert status["events"] == 200 * (round_ + 1)
    files = sorted((tmp_path / "out" / "counts").iterdir())
    rows = pa.concat_tables([pa.parquet.read_table(file) for file in files]).to_pylist()
    assert len(rows) == 10
    found = {(row["window_end"], row["item"]): row["n_1s"] for row in rows}
    assert found == {(end, item): 40 for end in (1000, 2000) for item in range(5)}


def test_what_is_not_there_is_said(broker: str) -> None:
    with pytest.raises(ConfigError, match="options"):
        KafkaSource(broker, ["x"], options={"no.such.option": 1})
    with pytest.raises(ClusterError, match="does not answer"):
        KafkaSource("127.0.0.1:1", ["x"], timeout_s=0.3)
    sink = KafkaSink("127.0.0.1:1", {"s": "x"}, timeout_s=0.3)
    with pytest.raises(ClusterError, match="1 results of checkpoint 1"):
        sink.write(1, {"s": pa.table({"n": [1]})})
    sink.close()


def test_numbers_that_json_has_not_become_null(broker: str, topic: Callable[[int], str]) -> None:
    name = topic(1)
    sink = KafkaSink(broker, {"s": name})
    sink.begin(2, "me")
    rows = [{"x": float("nan"), "of": [1.5, float("inf")]}, {"x": -0.5, "of": None}]
    sink.write(3, {"s": pa.Table.from_pylist(rows)})
    sink.close()
    with KafkaSource(broker, [name]) as source:
        raw = read(source, 2)

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    found = [json.loads(raw.value(i), parse_constant=refused) for i in range(2)]
    assert found == [{"x": None, "of": [1.5, None]}, {"x": -0.5, "of": None}]


class Message:
    """What librdkafka gives: an event, or with `code` that something else happened there."""

    def __init__(self, offset: int, code: int | None = None) -> None:
        self._offset, self._code = offset, code

    def error(self) -> Any:
        return None if self._code is None else SimpleNamespace(code=lambda: self._code)

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return b"{}"

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize(
    ("batches", "position"),
    [
        ([[Message(4), Message(5), Message(8, -191)]], 8),  # 6 and 7 are a transaction's markers
        ([[Message(4), Message(5)], [Message(8, -191)]], 8),
        ([[Message(6, -191), Message(6), Message(7)]], 8),  # more came behind the end
    ],
)
def test_markers_at_the_end_leave_nothing_waiting(
    monkeypatch: pytest.MonkeyPatch, batches: list[list[Message]], position: int
) -> None:
    def taken(most: int, timeout: float) -> list[Message]:
        return batches.pop(0) if batches else []

    consumer = SimpleNamespace(
        consume=taken,
        assign=lambda places: None,
        unassign=lambda: None,
        close=lambda: None,
        get_watermark_offsets=lambda place, cached: (0, position),
    )
    errors = SimpleNamespace(_PARTITION_EOF=-191)
    kafka = SimpleNamespace(Consumer=lambda options: consumer, KafkaError=errors)
    kafka.TopicPartition = lambda *place: place
    kafka.KafkaException = OSError
    for module in ("kafka", "kafka_client"):
        monkeypatch.setattr(f"weiml.data.streams.{module}.kafka_client", lambda: kafka)
    monkeypatch.setattr(KafkaSource, "_known", lambda self: ["t/0"])
    monkeypatch.setattr(KafkaSource, "_oldest", lambda self, name: 0)
    with KafkaSource("nowhere", ["t"]) as source:
        source.seek({"t/0": 4})
        while batches:
            assert len(source.poll(10, 0.0)) in (0, 2)
        assert source.position() == {"t/0": position}
        assert source.lag() == {"t/0": 0}


def test_memory_sink_keeps_one_result_a_number() -> None:
    sink, table = MemorySink(), pa.table({"n": [1]})
    sink.write(1, {"s": table})
    sink.write(2, {"s": table})
    sink.begin(1, "run")
    sink.write(2, {"s": pa.table({"n": [2]})})
    found = sink.table("s")
    assert found is not None
    assert found["n"].to_pylist() == [1, 2]
    assert sink.table("none") is None
