"""Stages on disk: whole or not at all, found again by what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from weiml.train.plans import StageStore


def write(folder: Path, left: Path) -> Mapping[str, Any]:
    (folder / "sub").mkdir()
    (folder / "sub" / "made").write_text("it")
    return {"number": 1}


def test_a_stage_is_found_by_what_it_is_made_of(tmp_path: Path) -> None:
    with StageStore(tmp_path) as store:
        first = store.stage("one", {"a": 1, "b": 2}, write)
        again = store.stage("one", {"b": 2, "a": 1}, write)
        assert (first.cached, again.cached) == (False, True)
        assert again.about == {"number": 1}
        assert again.folder == first.folder == tmp_path / f"one-{first.key}"
        assert not store.stage("one", {"a": 1, "b": 3}, write).cached
        assert not store.stage("two", {"a": 1, "b": 2}, write).cached
    (first.folder / "sub" / "made").write_text("too much")
    with StageStore(tmp_path) as store:
        assert not store.stage("one", {"a": 1, "b": 2}, write).cached
        (first.folder / "stage.json").write_text("")
        assert not store.stage("one", {"a": 1, "b": 2}, write).cached


def test_what_a_broken_stage_leaves_is_there_for_the_next(tmp_path: Path) -> None:
    def breaks(folder: Path, left: Path) -> Mapping[str, Any]:
        left.mkdir()
        (left / "half").write_text("1")
        (folder / "half").write_text("1")
        raise KeyboardInterrupt

    def goes_on(folder: Path, left: Path) -> Mapping[str, Any]:
        return {"found": (left / "half").read_text()}

    with StageStore(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        store.stage("one", {}, breaks)
    assert [path.name[:5] for path in tmp_path.iterdir() if path.is_dir()] == [".one-"]
    with StageStore(tmp_path) as store:
        made = store.stage("one", {}, goes_on)
    assert made.resumed
    assert made.about == {"found": "1"}
    assert not list(tmp_path.glob(".*.unfinished"))
