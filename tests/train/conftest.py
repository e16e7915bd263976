"""Small data sets on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.models.conftest import make_batch
from weiml.data import BatchDataset, write_batches
from weiml.group import WorkerGroup


class Sets(NamedTuple):
    train: BatchDataset
    validation: BatchDataset


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    folder: Path = tmp_path_factory.mktemp("sets")
    return Sets(
        write_batches([make_batch(2000, 1)], folder / "train"),
        write_batches([make_batch(600, 2)], folder / "validation"),
    )


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that always holds the process ids of the newest worker group."""
    found: list[int] = []
    start = WorkerGroup.start

    def noted(*arguments: Any) -> WorkerGroup:
        group = start(*arguments)
        found[:] = [worker.pid for worker in group.workers]
        return group

    monkeypatch.setattr(WorkerGroup, "start", noted)
    return found
