from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data.datasets.registry import (
    DATASETS,
    Dataset,
    Workshop,
    default_cache_dir,
    fetch,
    list_datasets,
    register_dataset,
)
from weiml.errors import ConfigError, FetchError

BUILT: list[Path] = []


def build_toy(config: Any, workshop: Workshop) -> Mapping[str, pa.Table]:
    BUILT.append(workshop.scratch)
    (workshop.scratch / "raw.bin").write_bytes(b"raw")
    return {"numbers": pa.table({"n": [1, 2, 3]})}


def build_nothing(config: Any, workshop: Workshop) -> Mapping[str, pa.Table]:
    (workshop.scratch / "raw.bin").write_bytes(b"raw")
    raise FetchError("no source")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, build in (("toy", build_toy), ("broken", build_nothing)):
        dataset = Dataset(
            name=name, description="", licence="", home="", build=build, tables=("numbers",)
        )
        monkeypatch.setitem(DATASETS, name, dataset)
    BUILT.clear()
    yield
    BUILT.clear()


def test_builds_once_and_then_comes_from_the_cache(toys: None, tmp_path: Path) -> None:
    folder = fetch("toy", tmp_path)
    assert pq.read_table(folder / "numbers.parquet")["n"].to_pylist() == [1, 2, 3]
    assert sorted(p.name for p in folder.iterdir()) == ["dataset.json", "numbers.parquet"]
    assert fetch("toy", tmp_path) == folder
    assert len(BUILT) == 1
    assert not BUILT[0].exists()
    assert (
        json.loads((folder / "dataset.json").read_text())["files"]["numbers.parquet"]["rows"] == 3
    )


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_a_damaged_cache_is_built_again(toys: None, tmp_path: Path, damage: str) -> None:
    file = fetch("toy", tmp_path) / "numbers.parquet"
    good = file.read_bytes()
    if damage == "change":
        file.write_bytes(good[:-9] + b"x" + good[-8:])
    elif damage == "remove":
        file.unlink()
    else:
        (file.parent / "dataset.json").write_text("[]")
    fetch("toy", tmp_path)
    assert file.read_bytes() == good
    assert len(BUILT) == 2
    assert [path.name for path in file.parent.parent.iterdir()] == ["toy"]


def test_a_failed_build_leaves_nothing(toys: None, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no source"):
        fetch("broken", tmp_path)
    assert not list((tmp_path / "datasets").iterdir())


def test_an_unknown_name_gets_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="movielens-100k"):
        fetch("movielens100k", tmp_path)


def test_choices_after_a_colon_make_folders_of_their_own(tmp_path: Path) -> None:
    small = fetch("synthetic-feed:events=50,users=5,items=9", tmp_path)
    assert pq.read_metadata(small / "ratings.parquet").num_rows == 50
    assert fetch("synthetic-feed:users=5,items=9,events=50", tmp_path) == small
    assert fetch("synthetic-feed:events=50,users=5,items=9,seed=1", tmp_path) != small


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("synthetic-feed:evnts=5", ConfigError, "events"),
        ("synthetic-feed:events=none", ConfigError, "events"),
        ("synthetic-feed:events=0", ConfigError, "at least 1"),
        ("synthetic-feed:events", ConfigError, "form"),
        ("movielens-100k:events=5", FetchError, "nothing to choose"),
    ],
)
def test_wrong_choices_are_refused(
    tmp_path: Path, name: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        fetch(name, tmp_path)


def test_the_cache_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEIML_HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home"
    monkeypatch.delenv("WEIML_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "weiml"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "weiml"


def test_lists_data_sets_by_name() -> None:
    names = [dataset.name for dataset in list_datasets()]
    assert names == sorted(names)
    assert {"movielens-100k", "synthetic-feed"} <= set(names)


def test_remains_of_killed_builders_go_away_when_they_are_old(toys: None, tmp_path: Path) -> None:
    old, young = (tmp_path / "datasets" / f".toy.{name}.building" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    fetch("toy", tmp_path)
    assert not old.exists()
    assert young.exists()


def _fetch_when_told(barrier: Any, cache: str, results: Any) -> None:
    barrier.wait(60)
    results.put(str(fetch("synthetic-feed:events=30000", cache)))


def test_processes_that_fetch_at_once_all_get_the_same_whole_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_fetch_when_told, args=(barrier, str(tmp_path), results))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    folders = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(folders) == 1
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [Path(folders.pop()).name]


def test_registering_gives_the_data_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weiml.data.datasets.registry.DATASETS", {})
    dataset = Dataset(name="own", description="", licence="", home="", build=build_toy)
    assert register_dataset(dataset) is dataset
    assert list_datasets() == [dataset]
