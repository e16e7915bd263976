from __future__ import annotations

import os
from pathlib import Path

import pytest

from weiml.errors import FlowError
from weiml.flow.lock import RunsLock


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        RunsLock(tmp_path, "feed"),
        pytest.raises(FlowError, match=f"in use by process {os.getpid()}, flow 'feed', since"),
        RunsLock(tmp_path, "other"),
    ):
        pytest.fail("two runs hold the lock")
    with RunsLock(tmp_path, "again"):
        assert "again" in (tmp_path / "lock").read_text()
