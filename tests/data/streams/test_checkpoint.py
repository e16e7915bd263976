from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from weiml.data.streams import Checkpoint, Checkpoints
from weiml.errors import ConfigError, DataError


def made(number: int) -> Checkpoint:
    table = pa.table({"n": [number], "text": ["ä"]})
    return Checkpoint(
        number=number,
        manifest={"positions": {"a": number}},
        state={"w": {"keys": table, "none": table.slice(0, 0)}},
        results={"out": table},
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    assert store.load() == (None, [])
    store.save(made(1))
    found, wrong = store.load()
    assert found is not None
    assert not wrong
    assert found.manifest == {"positions": {"a": 1}}
    assert found.state["w"]["keys"].equals(made(1).results["out"])
    assert found.state["w"]["none"].num_rows == 0
    assert found.results["out"].equals(made(1).results["out"])


def test_the_newest_stay(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for number in range(1, 6):
        store.save(made(number))
    assert store.numbers() == [4, 5]


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "manifest", "version"])
def test_a_damaged_one_is_passed_over_and_told(tmp_path: Path, damage: str) -> None:
    store = Checkpoints(tmp_path)
    store.save(made(1))
    store.save(made(2))
    place = tmp_path / "checkpoint-00000002"
    file, manifest = place / "state" / "w" / "keys.arrow", place / "manifest.json"
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-8])
    elif damage == "flip":
        file.write_bytes(data[:400] + bytes([data[400] ^ 1]) + data[401:])
    elif damage == "missing":
        file.unlink()
    elif damage == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    else:
        manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 99'))
    found, wrong = store.load()
    assert found is not None
    assert found.number == 1
    assert len(wrong) == 1
    assert "checkpoint-00000002 is damaged" in wrong[0]
    store.discard_after(1)
    assert store.numbers() == [1]
    shutil.rmtree(tmp_path / "checkpoint-00000001" / "state")
    with pytest.raises(DataError, match="no checkpoint"):
        store.load()


def test_what_was_never_finished_is_not_there(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(made(1))
    (tmp_path / ".writing-00000002").mkdir()
    assert store.numbers() == [1]
    store.discard_after(1)
    assert not (tmp_path / ".writing-00000002").exists()


def test_the_oldest_tells_how_far_back_a_run_may_go(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    assert store.oldest() is None
    for number in range(1, 4):
        store.save(made(number))
    assert store.oldest() == {"positions": {"a": 2}}
    (tmp_path / "checkpoint-00000002" / "manifest.json").write_text("{")
    assert store.oldest() is None


def test_a_run_keeps_its_name(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "a")
    store.close()
    again, other = Checkpoints(tmp_path / "a"), Checkpoints(tmp_path / "b")
    assert again.run == store.run != other.run


def test_a_folder_has_one_run(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path)
    with pytest.raises(ConfigError, match="another run"):
        Checkpoints(tmp_path)
    first.close()
    first.close()
    Checkpoints(tmp_path).close()
    with pytest.raises(ConfigError, match="keep"):
        Checkpoints(tmp_path, keep=0)
