"""``weiml ps status`` on a real group of Ray actors."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from weiml.cli import app
from weiml.ps import FTRL, RayParameterServer, TableConfig


def test_status_counts_what_a_group_has_done(ray_session: None) -> None:
    with RayParameterServer.create(num_shards=2, num_workers=1, name="cli-status") as server:
        server.create_table(TableConfig(name="weights", dim=1, optimizer=FTRL()))
        client = server.client()
        keys = np.arange(1, 11, dtype=np.uint64)
        client.wait(client.push("weights", keys, np.ones((10, 1), np.float32)))
        done = CliRunner().invoke(app, ["ps", "status", "cli-status", "--json"])
        (group,) = json.loads(done.stdout)
        assert (group["name"], group["num_shards"], group["rows"]) == ("cli-status", 2, 10)
        assert group["tables"] == {"weights": 10}
        listed = CliRunner().invoke(app, ["ps", "status"]).stdout
        assert any(line.startswith("cli-status ") for line in listed.splitlines())


def test_a_group_that_is_not_there_is_named(ray_session: None) -> None:
    done = CliRunner().invoke(app, ["ps", "status", "nowhere"])
    assert done.exit_code == 2
    assert "nowhere" in done.stderr
