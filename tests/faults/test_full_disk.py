"""A disk that is full when shards write their checkpoint: it costs that one, and nothing else.

What a process may write to a file is limited from outside, so that its writes fail as they would.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import SGD, EmbeddedParameterServer, RayParameterServer, TableConfig

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no limits from outside here"),
]
KEYS = np.arange(100_000, dtype=np.uint64)
ONES = np.ones((len(KEYS), 1), np.float32)
DEADLINE_S = 60.0
LITTLE = 64 << 10


def limit(ps: RayParameterServer, size: int) -> None:
    """Let no shard write a file of more than `size` bytes."""
    for shard in ps.status()["shards"]:
        resource.prlimit(shard["pid"], resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def loaded(path: str) -> set[float]:
    """Return the distinct values that a checkpoint holds."""
    with EmbeddedParameterServer() as other:
        other.load(path)
        assert other.status()["rows"] == len(KEYS)
        return set(np.asarray(other.client().pull("t", KEYS).wait())[:, 0].tolist())


def test_a_checkpoint_without_room_names_its_file_and_the_one_before_is_used(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    with RayParameterServer.create(2, 1, None, "full-disk", checkpoint_root=str(root)) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client = ps.client()
        client.wait(client.push("t", KEYS, ONES))
        before = ps.checkpoint()
        client.wait(client.push("t", KEYS, ONES))
        limit(ps, LITTLE)
        for full in (False, True):
            with pytest.raises(ParameterServerError, match=rf"{root}/.*\.arrow.*File too large"):
                ps.checkpoint(full=full)
        client.wait(client.push("t", KEYS, ONES))  # the group goes on
        assert [str(path) for path in root.iterdir()] == [before]  # nothing is left of the others
        assert loaded(before) == {-1.0}
        os.kill(ps.status()["shards"][1]["pid"], signal.SIGKILL)
        values = np.asarray(client.pull("t", KEYS).wait())[:, 0]
        assert set(values.tolist()) == {-1.0, -3.0}
        limit(ps, resource.RLIM_INFINITY)
        after = ps.checkpoint()
        assert loaded(after) == {-1.0, -3.0}


def test_a_checkpoint_by_the_clock_that_fails_shows_until_one_succeeds(tmp_path: Path) -> None:
    with RayParameterServer.create(
        1,
        1,
        None,
        "full-disk-by-the-clock",
        checkpoint_root=str(tmp_path / "root"),
        checkpoint_interval_s=0.3,
    ) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        limit(ps, LITTLE)
        client = ps.client()
        client.wait(client.push("t", KEYS, ONES))
        deadline = time.monotonic() + DEADLINE_S
        while "File too large" not in str(ps.status()["error"]):
            assert time.monotonic() < deadline, "no error is shown"
            time.sleep(0.05)
        limit(ps, resource.RLIM_INFINITY)
        while ps.status()["error"] is not None:
            assert time.monotonic() < deadline, "the error is shown for ever"
            time.sleep(0.05)
        assert ps.status()["checkpoint"] is not None
