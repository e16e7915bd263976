from __future__ import annotations

from pathlib import Path

import pytest

from weiml.data.streams import Quarantine, QuarantineConfig, RawEvents, bad_events, replay
from weiml.errors import ConfigError, DataError

RAW = RawEvents.of_values([b"a", b"\xff\n", b"c"], partition="p", first_offset=5)


def test_bad_events_can_be_read_again(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.see(3)
    quarantine.add(RAW, [0, 1], ["no reason", "not text"])
    quarantine.write(1)
    quarantine.write(2)
    assert [(e.reason, e.partition, e.offset, e.value) for e in bad_events(tmp_path)] == [
        ("no reason", "p", 5, b"a"),
        ("not text", "p", 6, b"\xff\n"),
    ]
    again = replay(tmp_path)
    assert [again.value(i) for i in range(len(again))] == [b"a", b"\xff\n"]
    assert again.offsets.tolist() == [5, 6]
    assert again.times.tolist() == [0, 0]
    assert len(replay(tmp_path / "none")) == 0


def test_a_part_that_comes_again_replaces_the_old_one(tmp_path: Path) -> None:
    Quarantine(tmp_path).begin(0, "mine")
    for rows in ([0, 1], [2]):
        quarantine = Quarantine(tmp_path)
        quarantine.add(RAW, rows, ["r"] * len(rows))
        quarantine.write(4)
    assert [event.value for event in bad_events(tmp_path)] == [b"c"]
    quarantine.begin(4, "mine")
    assert len(list(bad_events(tmp_path))) == 1
    quarantine.begin(3, "mine")
    assert list(bad_events(tmp_path)) == []


def test_bad_events_of_another_run_are_never_deleted(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.begin(0, "mine")
    quarantine.add(RAW, [0], ["r"])
    quarantine.write(1)
    with pytest.raises(ConfigError, match="checkpoint_dir that they belong to"):
        Quarantine(tmp_path).begin(0, "another")
    quarantine.add(RAW, [1], ["r"])
    quarantine.write(2)
    with pytest.raises(ConfigError, match="up to number 2"):
        quarantine.begin(0, "mine")  # its checkpoints are gone
    assert len(list(bad_events(tmp_path))) == 2


def test_too_many_stop_the_run(tmp_path: Path) -> None:
    config = QuarantineConfig(max_share=0.1, min_events=20, max_events=5)
    quarantine = Quarantine(tmp_path, config)
    quarantine.see(10)
    quarantine.add(RAW, [0, 1], ["x", "the last reason"])
    quarantine.check()  # of so few the share says nothing
    quarantine.see(9)
    quarantine.check()
    quarantine.see(1)
    quarantine.check()  # just at the limit
    quarantine.add(RAW, [0], ["the last reason"])
    with pytest.raises(DataError, match=r"3 of 20 .*15.00%.*max_share = 0.1.*the last reason"):
        quarantine.check()
    quarantine.see(10_000)
    quarantine.check()
    again = Quarantine(tmp_path, config)
    again.restore(quarantine.state())
    again.add(RAW, [0, 1, 2], ["x"] * 3)
    with pytest.raises(DataError, match="max_events = 5"):
        again.check()


def test_settings_and_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_share"):
        QuarantineConfig(max_share=2)
    with pytest.raises(ConfigError, match="min_events"):
        QuarantineConfig(min_events=0)
    (tmp_path / "2020-01-01").mkdir()
    (tmp_path / "2020-01-01" / "part-00000001.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="part-00000001.jsonl:1"):
        list(bad_events(tmp_path))
