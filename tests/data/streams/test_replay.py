from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest

from weiml.data.streams import (
    JsonDecoder,
    MemorySink,
    Quarantine,
    QuarantineConfig,
    QuarantinedEvents,
    RawEvents,
    StreamConfig,
    bad_events,
    replay,
    run_stream,
)
from weiml.data.streams.intake import Intake
from weiml.errors import DataError

NUMBER, TEXT = (
    JsonDecoder(schema=pa.schema([pa.field("time", pa.int64(), nullable=False), ("n", kind)]))
    for kind in (pa.int64(), pa.string())
)
SETTINGS = StreamConfig(time="time", give_events=True, poll_s=0.0, batch_events=2)


def set_aside(folder: Path) -> list[int]:
    """Have a stream set three of five events aside, for their type; return their times."""
    now = time.time_ns() // 1_000_000
    values = [json.dumps({"time": now + i, "n": i if i % 2 else f"{i}"}).encode() for i in range(5)]
    keys = pa.array([b"k", None, None, b"\xff", None], pa.binary())
    raw = RawEvents(
        **{
            **vars(RawEvents.of_values(values, partition="p", first_offset=7)),
            "times": pa.array([now + i for i in range(5)]).to_numpy(),
            "keys": keys,
        }
    )
    quarantine = Quarantine(folder, QuarantineConfig(max_share=1))
    with Nowhere() as source:
        assert len(Intake(SETTINGS, NUMBER, quarantine).take(raw, source).times) == 2
    quarantine.write(1)
    return [now, now + 2, now + 4]


class Nowhere(QuarantinedEvents):
    """A source of nothing."""

    def __init__(self) -> None:
        super().__init__("nowhere")


def test_all_that_came_with_an_event_comes_again(tmp_path: Path) -> None:
    times = set_aside(tmp_path)
    raw = replay(tmp_path)
    assert raw.times.tolist() == times
    assert raw.offsets.tolist() == [7, 9, 11]
    assert [raw.partitions[i] for i in raw.partition] == ["p"] * 3
    assert [raw.key(i) for i in range(3)] == [b"k", None, None]


def test_a_mended_decoder_takes_all_of_them(tmp_path: Path) -> None:
    times = set_aside(tmp_path / "bad")
    sink = MemorySink()
    status = run_stream(
        QuarantinedEvents(tmp_path / "bad"),
        TEXT,
        SETTINGS,  # max_ahead too: they came when they came
        checkpoint_dir=tmp_path / "checkpoints",
        sink=sink,
        quarantine=Quarantine(tmp_path / "still-bad"),
        until="end",
    )
    assert (status["events"], status["quarantined"], status["lag"]) == (3, 0, 0)
    table = sink.table("events")
    assert table is not None
    assert table.to_pydict() == {"time": times, "n": ["0", "2", "4"]}
    assert list(bad_events(tmp_path / "still-bad")) == []


def test_it_goes_on_from_a_position(tmp_path: Path) -> None:
    set_aside(tmp_path)
    with QuarantinedEvents(tmp_path) as source:
        assert source.lag() == {"p": 3}
        assert len(source.poll(2, 0.0)) == 2
        position = source.position()
        assert len(source.poll(2, 0.0)) == 1
        assert len(source.poll(2, 0.0)) == 0
    with QuarantinedEvents(tmp_path) as source:
        source.seek(position)
        assert source.lag() == {"p": 1}
        assert source.poll(9, 0.0).offsets.tolist() == [11]
    with QuarantinedEvents(tmp_path / "none") as source, pytest.raises(DataError, match="gone"):
        source.seek(position)
