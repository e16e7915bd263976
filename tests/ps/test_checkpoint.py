"""Checkpoints: any number of shards loads them, and damage is found before anything changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import FTRL, SGD, EmbeddedParameterServer, TableConfig
from weiml.ps.checkpoint import write_checkpoint

KEYS = np.append(np.arange(500, dtype=np.uint64) * 7919, np.uint64(2**64 - 1))


def trained(num_shards: int) -> EmbeddedParameterServer:
    """Return a server with two tables, one of them empty, and a vector."""
    ps = EmbeddedParameterServer(num_shards)
    ps.create_table(TableConfig("wide", optimizer=FTRL(l1=0.1)))
    ps.create_table(TableConfig("deep", dim=3, optimizer=SGD(), init_scale=0.1, seed=4))
    ps.create_table(TableConfig("empty", dim=2, optimizer=SGD()))
    ps.create_vector("dense", np.arange(11, dtype=np.float32))
    client = ps.client()
    rng = np.random.default_rng(5)
    client.push("wide", KEYS, rng.normal(size=(501, 1)).astype(np.float32))
    client.push("deep", KEYS[:300], rng.normal(size=(300, 3)).astype(np.float32))
    client.push_vector("dense", rng.normal(size=11).astype(np.float32))
    return ps


def content(ps: EmbeddedParameterServer) -> list[np.ndarray]:
    client = ps.client()
    tickets = [client.pull(table, KEYS, "state") for table in ("wide", "deep", "empty")]
    tickets.append(client.pull_vector("dense"))
    return [np.asarray(client.wait(ticket)) for ticket in tickets]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved"
    trained(2).save(str(path))
    return path


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 3), (3, 2), (1, 5), (5, 1), (2, 2)])
def test_any_number_of_shards_loads_what_any_number_saved(
    before: int, after: int, tmp_path: Path
) -> None:
    ps = trained(before)
    ps.save(str(tmp_path / "a"))
    other = EmbeddedParameterServer(after)
    other.load(str(tmp_path / "a"))
    for mine, theirs in zip(content(ps), content(other), strict=True):
        assert np.array_equal(mine, theirs)
    assert (
        other.status()["tables"] == ps.status()["tables"] == {"wide": 501, "deep": 300, "empty": 0}
    )
    other.save(str(tmp_path / "b"))
    again = EmbeddedParameterServer(before)
    again.load(str(tmp_path / "b"))
    for mine, theirs in zip(content(ps), content(again), strict=True):
        assert np.array_equal(mine, theirs)


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(saved: Path) -> None:
    ps, resumed = trained(2), EmbeddedParameterServer(3)
    resumed.load(str(saved))
    for server in (ps, resumed):
        server.client().push("wide", KEYS, np.full((501, 1), 0.5, np.float32))
    for mine, theirs in zip(content(ps), content(resumed), strict=True):
        assert np.array_equal(mine, theirs)


def test_the_files_are_plain_arrow_as_documented(saved: Path) -> None:
    table = pa.ipc.open_file(str(saved / "shard-0" / "table-deep.arrow")).read_all()
    assert table.schema.field("key").type == pa.uint64()
    assert table.schema.field("state").type == pa.list_(pa.float32(), 3)
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["num_shards"] == 2
    assert {entry["rows"] for entry in manifest["files"] if entry["name"] == "dense"} == {5, 6}


def damageable(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_damaged_byte_is_found_and_named(saved: Path, rng: np.random.Generator) -> None:
    ps = trained(1)
    before = content(ps)
    files = damageable(saved)
    assert len(files) == 9  # three tables and a vector on two shards, and the manifest
    for file in files:
        good = file.read_bytes()
        for place in rng.integers(0, len(good), 5):
            bad = bytearray(good)
            bad[place] ^= 0x11
            file.write_bytes(bytes(bad))
            with pytest.raises(ParameterServerError, match=f"{file.name} is damaged"):
                ps.load(str(saved))
        for bad_bytes in (good[:-1], good + b"x", b""):
            if file.name != "manifest.json" or bad_bytes != good[:-1]:  # its last byte is a newline
                file.write_bytes(bad_bytes)
                with pytest.raises(ParameterServerError, match=f"{file.name} is damaged"):
                    ps.load(str(saved))
        file.write_bytes(good)
    for mine, theirs in zip(before, content(ps), strict=True):
        assert np.array_equal(mine, theirs)
    ps.load(str(saved))


def test_a_missing_file_is_named(saved: Path) -> None:
    for file in damageable(saved):
        good = file.read_bytes()
        file.unlink()
        with pytest.raises(ParameterServerError, match=file.name):
            EmbeddedParameterServer().load(str(saved))
        file.write_bytes(good)


def test_another_version_is_refused(saved: Path) -> None:
    from weiml.ps.checkpoint import _checksum

    file = saved / "manifest.json"
    body = json.loads(file.read_text()) | {"version": 2}
    del body["checksum"]
    file.write_text(json.dumps({**body, "checksum": _checksum(body)}))
    with pytest.raises(ParameterServerError, match="version 2; this release reads"):
        EmbeddedParameterServer().load(str(saved))


def test_a_save_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: str) -> list[object]:
        (Path(folder) / "half").write_text("written")
        raise OSError(28, "No space left on device")

    with pytest.raises(ParameterServerError, match="could not be written.*No space left"):
        write_checkpoint(tmp_path / "x", 1024, fail)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterServerError, match=r"file/x could not be written"):
        trained(1).save(str(tmp_path / "file" / "x"))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterServerError, match=r"has no manifest\.json"):
        EmbeddedParameterServer().load(str(tmp_path))


def test_loading_moves_the_sequence_past_both_histories(saved: Path, tmp_path: Path) -> None:
    fresh = EmbeddedParameterServer()
    newest = max(json.loads((saved / "manifest.json").read_text())["sequences"])
    fresh.load(str(saved))
    assert fresh.sequence > newest  # or a delta since the saved cut would miss rows
    client = fresh.client()
    for _ in range(50):
        client.push("wide", KEYS, np.ones((len(KEYS), 1), np.float32))
    before = fresh.cut
    fresh.load(str(saved))
    assert fresh.sequence > before.total
    assert len(fresh.client().delta(before).tables["wide"][0]) == len(KEYS)
