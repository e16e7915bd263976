"""Checkpoints of whole groups: chains, restores after a loss, and what is between two of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ps import training
from weiml.errors import ParameterServerError
from weiml.ps import SGD, EmbeddedParameterServer, ParameterServer, TableConfig

KEYS = np.arange(50, dtype=np.uint64) * 31
ONES = np.ones((50, 1), np.float32)


@pytest.fixture(params=["embedded", "ray"])
def ps(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ParameterServer]:
    fields: dict[str, Any] = {
        "checkpoint_root": str(tmp_path / "root"),
        "full_checkpoint_every": 3,
    }
    if request.param == "embedded":
        with EmbeddedParameterServer(2, 1, None, **fields) as server:
            yield server
        return
    request.getfixturevalue("ray_session")
    from weiml.ps import RayParameterServer

    with RayParameterServer.create(2, 1, None, "checkpointed", **fields) as server:
        yield server


def values(ps: ParameterServer, keys: np.ndarray = KEYS) -> np.ndarray:
    return np.asarray(ps.client().pull("t", keys).wait())[:, 0]


def test_a_chain_of_a_full_one_and_deltas_brings_back_each_moment(ps: ParameterServer) -> None:
    ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
    ps.create_vector("v", np.zeros(7, np.float32))
    client = ps.client()
    saved = []
    for n in range(5):
        client.push("t", KEYS[: 10 * (n + 1)], ONES[: 10 * (n + 1)])
        client.delete("t", KEYS[n : n + 1])
        client.push_vector("v", np.ones(7, np.float32))
        client.flush()
        saved.append((ps.checkpoint(), values(ps)))
    kinds = [path.rpartition("-")[2] for path, _ in saved]
    assert kinds == ["full", "delta", "delta", "full", "delta"]
    sizes = [os.path.getsize(Path(path) / "manifest.json") for path, _ in saved]
    assert all(sizes)
    for n, (path, expected) in reversed(list(enumerate(saved))):
        with EmbeddedParameterServer(3) as other:
            other.load(path)
            assert np.array_equal(values(other), expected)
            vector = np.asarray(other.client().pull_vector("v").wait())
            assert (vector == n + 1).all()


def test_after_buckets_moved_the_next_checkpoint_is_full_and_whole(ps: ParameterServer) -> None:
    ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
    client = ps.client()
    client.push("t", KEYS, ONES)
    client.flush()
    ps.checkpoint()
    ps.rescale(3)
    client.push("t", KEYS[:10], ONES[:10])
    client.flush()
    path = ps.checkpoint()
    assert path.endswith("full")
    with EmbeddedParameterServer(2) as other:
        other.load(path)
        assert np.array_equal(values(other), values(ps))
        assert other.status()["rows"] == len(KEYS)


def test_a_group_without_a_root_says_so() -> None:
    with (
        EmbeddedParameterServer() as ps,
        pytest.raises(ParameterServerError, match="no checkpoint_root"),
    ):
        ps.checkpoint()


def test_a_lost_shard_without_stand_by_is_restored_and_training_goes_on(
    ray_session: None, tmp_path: Path
) -> None:
    from weiml.ps import RayParameterServer

    with RayParameterServer.create(
        2, 1, None, "restored", checkpoint_root=str(tmp_path / "root")
    ) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client = ps.client(0)
        client.wait(client.push("t", KEYS, ONES))
        client.wait(client.tick())
        ps.checkpoint()
        for _ in range(3):  # the loss window: what came after the checkpoint
            client.wait(client.push("t", KEYS, ONES))
            client.wait(client.tick())
        os.kill(ps.status()["shards"][1]["pid"], signal.SIGKILL)
        client.wait(client.push("t", KEYS, ONES))
        client.wait(client.tick())
        got = values(ps)
        assert set(got.tolist()) == {-5.0, -2.0}
        status = ps.status()
        assert status["restores"] == 1
        assert client.counts["lost_writes"] == status["lost_writes"] == 6
        assert status["clocks"] == {0: 5}
        client.finish()


def test_pulls_and_pushes_go_on_during_a_save_and_do_not_show_in_it(
    ray_session: None, tmp_path: Path
) -> None:
    from weiml.ps import RayParameterServer

    keys = np.arange(400_000, dtype=np.uint64)
    ones = np.ones((len(keys), 1), np.float32)
    with RayParameterServer.create(1, 1, None, "saving") as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client = ps.client()
        client.wait(client.push("t", keys, ones))
        saving = threading.Thread(target=ps.save, args=(str(tmp_path / "one"),))
        saving.start()
        rounds = 0
        while saving.is_alive() or rounds < 3:
            client.wait(client.push("t", keys[::7], ones[::7]))
            rounds += 1
            assert (np.asarray(client.pull("t", keys[:7]).wait())[1:] == -1).all()
        saving.join()
    with EmbeddedParameterServer() as other:
        other.load(str(tmp_path / "one"))
        got = values(other, keys)
        # One cut: each push is in it whole or not at all.
        assert len(set(got[::7].tolist())) == 1
        assert (np.delete(got, np.s_[::7]) == -1).all()


def test_checkpoints_are_taken_by_the_clock_and_at_the_end(
    ray_session: None, tmp_path: Path
) -> None:
    from weiml.ps import RayParameterServer

    root = tmp_path / "root"
    fields: dict[str, Any] = {"checkpoint_root": str(root), "checkpoint_interval_s": 0.5}
    with RayParameterServer.create(1, 1, 0, "timed", **fields) as ps:
        training.create(ps)
        client = ps.client(0)
        for tick in range(2):
            deadline = time.monotonic() + 60
            while not (root.exists() and len(list(root.iterdir())) > tick):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            training.step(client, tick)
        client.finish()
        expected = training.content(ps)
    newest = max(path for path in root.iterdir() if not path.name.startswith("."))
    assert newest.name.endswith("full")
    with EmbeddedParameterServer() as other:
        other.load(str(newest))
        training.assert_equal(training.content(other), expected)
