"""Warming passes every item on, one ahead, and never fails."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from weiml.data.batches.warming import warmed


def test_items_come_as_they_are_one_taken_ahead(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(5)]
    for path in paths[:4]:  # the last is not there: whoever opens it will say so
        path.write_bytes(b"x" * 300_000)
    taken = []

    def items() -> Iterator[Path]:
        for path in paths:
            taken.append(path)
            yield path

    got = warmed(items(), lambda path: [path])
    assert next(got) == paths[0]
    assert taken == paths[:2]
    assert [paths[0], *got] == paths


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no such advice on this system")
def test_whole_files_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: asked.append((start, size)))
    (tmp_path / "x").write_bytes(b"x" * 300_000)
    assert list(warmed([1], lambda _: [tmp_path / "x"])) == [1]
    assert asked[0][0] == 0
    assert all(a[0] + a[1] == b[0] for a, b in itertools.pairwise(asked))
    assert sum(asked[-1]) >= 300_000


def test_dropping_it_ends_its_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    got = warmed(range(10), lambda _: [tmp_path / "none"])
    next(got)
    got.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
