"""Checkpoints of a server: any number of shards loads them, and damage changes nothing."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import numpy as np
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import FTRL, SGD, Adagrad, EmbeddedParameterServer, TableConfig
from weiml.ps.checkpoint import open_checkpoint

KEYS = np.append(np.arange(500, dtype=np.uint64) * 7919, np.uint64(2**64 - 1))
TABLES = (
    TableConfig("wide", optimizer=FTRL(l1=0.1)),
    TableConfig("deep", dim=3, optimizer=Adagrad(), init_scale=0.1, seed=4, weights="bfloat16"),
    TableConfig("rows", dim=2, optimizer=SGD(), rows=700),
    TableConfig("counted", optimizer=SGD(), statistics=("count", "last_seen")),
    TableConfig("empty", dim=2, optimizer=SGD()),
)
ROWS = {"wide": 501, "deep": 300, "rows": 700, "counted": 400, "empty": 0}


def trained(num_shards: int) -> EmbeddedParameterServer:
    """Return a server with tables of each kind, one of them empty, and a vector."""
    ps = EmbeddedParameterServer(num_shards)
    for config in TABLES:
        ps.create_table(config)
    ps.create_vector("dense", np.arange(11, dtype=np.float32))
    client = ps.client()
    rng = np.random.default_rng(5)
    for table, keys, dim in (
        ("wide", KEYS, 1),
        ("deep", KEYS[:300], 3),
        ("rows", np.arange(0, 700, 3, dtype=np.uint64), 2),
        ("counted", KEYS[:400], 1),
    ):
        client.wait(client.push(table, keys, rng.normal(size=(len(keys), dim)).astype(np.float32)))
    client.wait(client.push_vector("dense", rng.normal(size=11).astype(np.float32)))
    return ps


def content(ps: EmbeddedParameterServer) -> list[np.ndarray]:
    client = ps.client()
    tickets = [client.pull(table, KEYS, "state") for table in ("wide", "deep", "counted", "empty")]
    tickets.append(client.pull("rows", np.arange(700, dtype=np.uint64), "state"))
    tickets.append(client.pull_vector("dense"))
    return [np.asarray(client.wait(ticket)) for ticket in tickets]


def same(one: EmbeddedParameterServer, other: EmbeddedParameterServer) -> bool:
    pairs = zip(content(one), content(other), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


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
    other, again = EmbeddedParameterServer(after), EmbeddedParameterServer(before)
    ps.save(str(tmp_path / "a"))
    other.load(str(tmp_path / "a"))
    assert same(ps, other)
    assert other.status()["tables"] == ps.status()["tables"] == ROWS
    other.save(str(tmp_path / "b"))
    again.load(str(tmp_path / "b"))
    assert same(ps, again)


def test_statistics_are_kept(saved: Path, tmp_path: Path) -> None:
    fresh = EmbeddedParameterServer(3)
    fresh.load(str(saved))
    fresh.save(str(tmp_path / "again"))
    known = rows_of(saved, "counted")
    assert rows_of(tmp_path / "again", "counted") == known
    assert len(known) == ROWS["counted"]
    assert {row[-2] for row in known.values()} == {1}  # pushed once


def rows_of(place: Path, table: str) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for _, keys, payload in open_checkpoint(place).rows(tables=[table]):
        assert payload is not None
        found |= zip(keys.tolist(), map(tuple, payload.tolist()), strict=True)
    return found


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(saved: Path) -> None:
    ps, resumed = trained(2), EmbeddedParameterServer(3)
    resumed.load(str(saved))
    for server in (ps, resumed):
        client = server.client()
        client.wait(client.push("wide", KEYS, np.full((501, 1), 0.5, np.float32)))
        client.wait(client.push("counted", KEYS, np.full((501, 1), 0.5, np.float32)))
    assert same(ps, resumed)


def test_a_server_saves_to_any_file_system() -> None:
    place = f"memory://{uuid.uuid4().hex}/model"
    ps, fresh = trained(2), EmbeddedParameterServer(1)
    ps.save(place)
    fresh.load(place)
    assert same(ps, fresh)


def test_loading_what_is_damaged_changes_nothing(saved: Path, rng: np.random.Generator) -> None:
    ps, reference = trained(1), trained(1)
    files = sorted(path for path in saved.rglob("*") if path.is_file())
    assert len(files) == 11  # four tables and a vector on two shards, and the manifest
    for file in files:
        good = file.read_bytes()
        bad = bytearray(good)
        bad[rng.integers(0, len(good))] ^= 0x11
        for content_, match in ((bytes(bad), "is damaged"), (good[:-2], "is damaged"), (None, "")):
            file.unlink() if content_ is None else file.write_bytes(content_)
            with pytest.raises(ParameterServerError, match=f"{file.name}.*{match}"):
                ps.load(str(saved))
        file.write_bytes(good)
    assert same(ps, reference)
    ps.load(str(saved))
    assert same(ps, reference)


def test_a_checkpoint_of_the_first_version_is_refused(tmp_path: Path) -> None:
    body = {
        "format": "weiml-ps-checkpoint",
        "version": 1,
        "num_shards": 1,
        "num_buckets": 1024,
        "sequences": [3],
        "tables": [],
        "vectors": {},
        "files": [],
    }
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({**body, "checksum": checksum}, indent=2))
    with pytest.raises(ParameterServerError, match=r"version 1; this release reads .* version 2"):
        EmbeddedParameterServer().load(str(tmp_path))


def test_what_cannot_be_saved_or_loaded_is_named(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterServerError, match=r"file/.*could not be made"):
        trained(1).save(str(tmp_path / "file" / "x"))
    with pytest.raises(ParameterServerError, match=f"{saved} exists already"):
        trained(1).save(str(saved))
    with pytest.raises(ParameterServerError, match=r"has no manifest\.json"):
        EmbeddedParameterServer().load(str(tmp_path))


def test_loading_moves_the_sequence_past_both_histories(saved: Path) -> None:
    fresh = EmbeddedParameterServer()
    newest = sum(
        shard["sequence"] for shard in json.loads((saved / "manifest.json").read_text())["shards"]
    )
    fresh.load(str(saved))
    client = fresh.client()
    for _ in range(50):
        client.wait(client.push("wide", KEYS, np.ones((len(KEYS), 1), np.float32)))
    before = fresh.cut
    fresh.load(str(saved))
    assert fresh.cut.total > before.total
    assert newest > 0
    delta = fresh.client().delta(before)
    assert len(delta.tables["wide"][0]) == len(KEYS)
