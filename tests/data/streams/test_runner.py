from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.data.streams.clicks import expected, make_log, outcome, stream
from weiml.data.streams import (
    ArrowDecoder,
    CallSink,
    Count,
    GrowingFiles,
    JsonDecoder,
    LabelJoin,
    LabelJoinConfig,
    MemorySink,
    Operator,
    PartFiles,
    Quarantine,
    QuarantineConfig,
    RawEvents,
    StreamConfig,
    StreamRun,
    StreamState,
    WindowConfig,
    Windows,
    bad_events,
    run_stream,
)
from weiml.data.streams.intake import Intake
from weiml.errors import ConfigError, DataError

SCHEMA = pa.schema([("item", pa.string()), pa.field("time", pa.int64(), nullable=False)])
SETTINGS = StreamConfig(time="time", lateness="10ms", poll_s=0.0, max_ahead=None)


def write(folder: Path, events: list[dict[str, Any]], name: str = "log") -> None:
    (folder / "in").mkdir(exist_ok=True)
    with (folder / "in" / name).open("ab") as file:
        file.write(b"".join(json.dumps(event).encode() + b"\n" for event in events))


def counts(name: str = "counts") -> Windows:
    return Windows(WindowConfig(name=name, keys=("item",), measures=(Count("n"),), sizes=("10ms",)))


def run_of(folder: Path, **options: Any) -> StreamRun:
    settings = {"operators": [counts()], "config": SETTINGS, **options}
    return StreamRun(
        GrowingFiles(folder / "in"),
        JsonDecoder(schema=SCHEMA),
        settings.pop("config"),
        checkpoint_dir=folder / "checkpoints",
        **settings,
    )


def test_the_outcome_is_that_of_going_through_the_log(tmp_path: Path) -> None:
    lines = make_log(600, seed=1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "log").write_bytes(b"".join(line + b"\n" for line in lines))
    status = stream(GrowingFiles(tmp_path / "in"), tmp_path).run("end")
    wanted = expected([lines])
    assert min(len(wanted["late"]), wanted["bad"], status["repeated"]) > 0  # all that can go wrong
    assert outcome(tmp_path) == wanted
    assert (status["state"], status["events"], status["lag"]) == ("stopped", len(lines), 0)
    assert (status["quarantined"], status["late"]) == (wanted["bad"], wanted["late"].total())
    json.dumps(status)


def test_one_step_is_one_transition(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    run = run_of(tmp_path)
    states = [run.state, run.step(), run.step(), run.step()]
    run.stop()
    states += [run.step(), run.step(), run.step()]
    new, running, stopping, stopped = list(StreamState)[:4]
    assert states == [new, running, running, running, stopping, stopped, stopped]
    assert run.status()["checkpoint"] == 1


def test_nothing_new_takes_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    for _ in range(3):
        assert run_of(tmp_path).run("caught_up")["checkpoint"] == 1


def test_windows_wait_for_the_watermark_across_runs(tmp_path: Path) -> None:
    sink, found = MemorySink(), []
    for times in ([1, 2, 9], [15, 6], [20], [21, 40]):
        write(tmp_path, [{"item": "a", "time": time} for time in times])
        run_of(tmp_path, sink=sink).run("caught_up")
        table = sink.table("counts")
        found.append([] if table is None else table["n_10ms"].to_pylist())
    assert found == [[], [], [4], [4, 1, 2]]


def test_operations_come_before_operators(tmp_path: Path) -> None:
    def even(table: pa.Table) -> pa.Table:
        table = table.filter(pc.equal(pc.bit_wise_and(table["time"], 1), 0))
        return table.append_column("item2", pc.binary_join_element_wise(table["item"], "x", ""))

    write(tmp_path, [{"item": "a", "time": time} for time in range(9)])
    sink = MemorySink()
    config = StreamConfig(time="time", max_ahead=None, give_events=True, poll_s=0.0)
    run_of(tmp_path, sink=sink, operations=even, config=config).run("end")
    table, rows = sink.table("events"), sink.table("counts")
    assert table is not None
    assert rows is not None
    assert table["time"].to_pylist() == [0, 2, 4, 6, 8]
    assert table["item2"].to_pylist() == ["ax"] * 5
    assert rows["n_10ms"].to_pylist() == [5]


def test_idle_files_hold_nothing_up(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}], "old")
    write(tmp_path, [{"item": "b", "time": 50}], "new")
    config = StreamConfig(
        time="time", lateness="0ms", max_ahead=None, poll_s=0.001, idle="30ms",
        checkpoint_every="1ms",
    )  # fmt: skip
    sink = MemorySink()
    run_of(tmp_path, config=config, sink=sink).run(lambda status: status["watermark"] == 50)
    rows = sink.table("counts")
    assert rows is not None
    assert rows["item"].to_pylist() == ["a"]


def test_an_event_of_the_far_future_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": time} for time in (0, 10**15, 5)])
    config = StreamConfig(time="time", poll_s=0.0)
    quarantine = Quarantine(tmp_path / "bad", QuarantineConfig())
    status = run_of(tmp_path, config=config, quarantine=quarantine).run("end")
    assert (status["quarantined"], status["late"]) == (1, 0)
    assert "max_ahead" in next(bad_events(tmp_path / "bad")).reason


def test_a_time_that_cannot_be_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": time} for time in (0, 2**62, -(2**62), 5)])
    quarantine = Quarantine(tmp_path / "bad", QuarantineConfig())
    config = StreamConfig(time="time", time_unit="s", poll_s=0.0)
    status = run_of(tmp_path, config=config, quarantine=quarantine).run("end")
    assert (status["quarantined"], status["late"], status["newest"]) == (2, 0, 5000)
    assert ["no time" in event.reason for event in bad_events(tmp_path / "bad")] == [True, True]


def test_events_without_an_id_are_like_no_other(tmp_path: Path) -> None:
    ids: list[dict[str, Any]] = [{"item": "a"}, {}, {"item": None}, {}, {"item": "a"}, {"item": ""}]
    write(tmp_path, [{**event, "time": time} for time, event in enumerate(ids)])
    config = StreamConfig(time="time", id="item", poll_s=0.0, give_events=True)
    sink = MemorySink()
    status = run_of(tmp_path, config=config, sink=sink).run("end")
    events = sink.table("events")
    assert events is not None
    assert events["time"].to_pylist() == [0, 1, 2, 3, 5]
    assert (status["repeated"], status["without_id"]) == (1, 3)


def test_rotation_makes_no_late_event_count(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 100_000}])
    write(tmp_path, [{"item": "a", "time": 0}], "slow")  # holds the watermark at -10
    run_of(tmp_path).run("caught_up")
    (tmp_path / "in" / "log").rename(tmp_path / "in" / "log.1")
    write(tmp_path, [{"item": "a", "time": 5}], "log.1")
    status = run_of(tmp_path).run("caught_up")
    assert (status["late"], status["watermark"]) == (1, -10)


def test_an_event_of_several_rows_is_set_aside_as_a_whole(tmp_path: Path) -> None:
    def payload(times: list[int]) -> bytes:
        sink = pa.BufferOutputStream()
        table = pa.table({"item": ["a"] * len(times), "time": times})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    quarantine = Quarantine(tmp_path / "bad", QuarantineConfig())
    intake = Intake(StreamConfig(time="time"), ArrowDecoder(schema=SCHEMA), quarantine)
    raw = RawEvents.of_values([payload([1, 2]), payload([3, 10**15, 4]), payload([5])])
    write(tmp_path, [])
    with GrowingFiles(tmp_path / "in") as source:
        assert intake.take(raw, source).times.tolist() == [1, 2, 5]
    assert quarantine.count == 1


def test_too_many_bad_events_end_the_run_and_are_kept(tmp_path: Path) -> None:
    write(tmp_path, [{"item": 3, "time": 0}, {"item": "a", "time": 0}])
    quarantine = Quarantine(tmp_path / "bad", QuarantineConfig(min_events=1))
    run = run_of(tmp_path, quarantine=quarantine)
    with pytest.raises(DataError, match="max_share = 0.01"):
        run.run("end")
    assert run.state is StreamState.FAILED
    assert [event.offset for event in bad_events(tmp_path / "bad")] == [0]
    # Nothing went by: a mended run reads both again.
    mended = Quarantine(tmp_path / "bad", QuarantineConfig(max_share=1))
    status = run_of(tmp_path, quarantine=mended).run("end")
    assert (status["events"], status["quarantined"]) == (2, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path: Path, number: int) -> None:
    write(tmp_path, [{"item": "a", "time": time} for time in range(100)])
    before = signal.getsignal(number)

    def send(status: Mapping[str, Any]) -> bool:
        if status["events"] == 100:
            os.kill(os.getpid(), number)
        return False

    status = run_of(tmp_path).run(send)
    assert (status["state"], status["checkpoint"]) == ("stopped", 1)
    assert signal.getsignal(number) is before


def test_another_thread_may_stop_it(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    run = run_of(tmp_path)
    thread = threading.Thread(target=run.run)
    thread.start()
    run.stop()
    thread.join(20)
    assert run.state is StreamState.STOPPED


def test_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    run_of(tmp_path).run("caught_up")
    with pytest.raises(ConfigError, match="operators was"):
        run_of(tmp_path, operators=[counts(), counts("more")]).run("caught_up")
    with pytest.raises(ConfigError, match="lateness was '10ms', is '5ms'"):
        run_of(tmp_path, config=StreamConfig(time="time", lateness="5ms")).run("caught_up")
    run_of(tmp_path).run("caught_up")


def test_a_damaged_checkpoint_costs_a_replay_and_no_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MemorySink()
    for time in (1, 12, 40, 70):
        write(tmp_path, [{"item": "a", "time": time}])
        run_of(tmp_path, sink=sink).run("caught_up")
    for number in (3, 4):
        (tmp_path / "checkpoints" / f"checkpoint-0000000{number}" / "manifest.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        status = run_of(tmp_path, sink=sink).run("end")
    assert "checkpoint-00000003 is damaged" in caplog.text
    assert (status["events"], status["checkpoint"]) == (4, 3)  # what was in two is now in one
    rows = sink.table("counts")
    assert rows is not None
    assert rows["n_10ms"].to_pylist() == [1, 1, 1, 1]
    assert rows["sequence"].to_pylist() == [0, 1, 2, 3]


def test_files_stay_until_no_kept_checkpoint_needs_them(tmp_path: Path) -> None:
    sink = MemorySink()
    config = StreamConfig(time="time", max_ahead=None, poll_s=0.0, give_events=True)

    def run() -> StreamRun:
        return StreamRun(
            GrowingFiles(tmp_path / "in", sequence=True, delete_read=True, discover_every_s=0.0),
            JsonDecoder(schema=SCHEMA),
            config,
            checkpoint_dir=tmp_path / "checkpoints",
            sink=sink,
        )

    write(tmp_path, [{"item": "a", "time": time} for time in range(5)], "1")
    run().run("caught_up")
    write(tmp_path, [{"item": "a", "time": time} for time in range(5, 10)], "1")
    write(tmp_path, [{"item": "a", "time": time} for time in (10, 11)], "2")
    run().run("caught_up")
    (tmp_path / "checkpoints" / "checkpoint-00000002" / "manifest.json").write_text("{")
    run().run("caught_up")
    events = sink.table("events")
    assert events is not None
    assert events["time"].to_pylist() == list(range(12))
    for time in range(12, 16):
        write(tmp_path, [{"item": "a", "time": time}], "2")
        run().run("caught_up")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["2"]
    run().run("caught_up")


def test_a_fresh_checkpoint_folder_does_not_delete_results(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    run_of(tmp_path, sink=PartFiles(tmp_path / "out")).run("end")
    (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
    run = run_of(tmp_path, sink=PartFiles(tmp_path / "out"))
    with pytest.raises(ConfigError, match="checkpoint_dir"):
        run.run("end")
    assert len(list((tmp_path / "out" / "counts").iterdir())) == 1


def test_names_of_operators_are_checked(tmp_path: Path) -> None:
    join = LabelJoin(LabelJoinConfig(keys=("item",), source="count"))
    for operators, text in (
        ([counts("a/b")], "letters"),
        ([counts("late")], "taken"),
        ([counts(), counts()], "taken"),
        ([counts(), join], "did you mean 'counts'"),
    ):
        with pytest.raises(ConfigError, match=text):
            run_of(tmp_path, operators=operators)


class Watched(Operator):
    """Notes what it is told."""

    name = "watched"
    source = "labelled"

    def __init__(self) -> None:
        self.times: list[tuple[int, int]] = []
        self.reached = -(1 << 62)

    @property
    def config(self) -> Mapping[str, Any]:
        return {}

    def add(self, events: pa.Table, times: np.ndarray) -> None:
        self.times += [(self.reached, int(time)) for time in times]

    def advance(self, watermark: int) -> pa.Table | None:
        self.reached = watermark
        return None

    def state(self) -> dict[str, pa.Table]:
        return {}

    def restore(self, tables: Mapping[str, pa.Table]) -> None:
        raise AssertionError("there is nothing to restore")


def test_no_operator_sees_an_event_below_its_watermark(tmp_path: Path) -> None:
    lines = make_log(200, seed=2)
    log = tmp_path / "log"
    log.write_bytes(b"".join(line + b"\n" for line in lines))
    run, watched = stream(GrowingFiles(log), tmp_path, batch_events=7), Watched()
    run._operators["watched"] = watched
    run.run("end")
    assert len(watched.times) > 50
    assert all(reached <= time for reached, time in watched.times)


def test_results_are_handed_to_a_function(tmp_path: Path) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    calls: list[tuple[int, int]] = []
    status = run_stream(
        GrowingFiles(tmp_path / "in"),
        JsonDecoder(schema=SCHEMA),
        SETTINGS,
        checkpoint_dir=tmp_path / "checkpoints",
        operators=[counts()],
        sink=CallSink(lambda number, tables: calls.append((number, tables["counts"].num_rows))),
        until="end",
    )
    assert calls == [(1, 1)]
    assert status["operators"]["counts"]["keys"] == 0


def test_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    config = StreamConfig(name="mine", time="time", log_every="1ms", poll_s=0.01)
    with caplog.at_level(logging.INFO):
        run_of(tmp_path, config=config).run("end")
    assert "stream=mine events=1 rate=" in caplog.text
    assert "watermark=" in caplog.text


def test_metrics_go_to_ray_where_it_is_up(tmp_path: Path, ray_session: None) -> None:
    write(tmp_path, [{"item": "a", "time": 0}])
    config = StreamConfig(name="mine", time="time", log_every="1ms", poll_s=0.01)
    run = run_of(tmp_path, config=config)
    run.run("end")
    assert run._progress._told["events"] == 1


@pytest.mark.parametrize(
    ("knob", "value"),
    [("lateness", "soon"), ("idle", "0s"), ("batch_events", 0), ("poll_s", -1), ("time_unit", "h")],
)
def test_settings_are_checked(knob: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=knob):
        StreamConfig(**{"time": "time", knob: value})
