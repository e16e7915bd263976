"""Folders behave alike on every file system, and their errors name the place."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import pytest

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.storage import Folder


@pytest.mark.parametrize(
    ("given", "place", "parent", "name"),
    [
        ("/a/b/", "/a/b", "/a", "b"),
        ("/a", "/a", "/", "a"),
        ("file:///a/b", "/a/b", "/a", "b"),
        ("memory://a", "memory://a", "memory://", "a"),
        ("memory://a/b", "memory://a/b", "memory://a", "b"),
        ("s3://bucket/a/b/", "s3://bucket/a/b", "s3://bucket/a", "b"),
        ("hdfs://host:9000/a/b", "hdfs://host:9000/a/b", "hdfs://host:9000/a", "b"),
    ],
)
def test_places_are_taken_apart(given: str, place: str, parent: str, name: str) -> None:
    folder = Folder.at(given)
    assert (folder.place, folder.parent.place, folder.name) == (place, parent, name)
    assert folder.parent / folder.name == folder
    assert pickle.loads(pickle.dumps(folder)) == folder


def test_a_relative_path_means_the_same_from_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder.at("x")
    monkeypatch.chdir("/")
    assert folder.place == str(tmp_path / "x")


def test_files_come_back_are_listed_and_removed(place: str) -> None:
    folder = Folder.at(place)
    assert not folder.exists()
    assert folder.folders() == []
    assert folder.sizes() == {}
    (folder / "sub").make()
    folder.write("a", b"12345")
    (folder / "sub").write("b", b"")
    assert bytes(folder.read("a")) == b"12345"
    assert bytes(folder.read("sub/b")) == b""
    assert folder.sizes() == {"a": 5, "sub/b": 0}
    assert folder.folders() == ["sub"]
    assert folder.exists("sub/b")
    assert not folder.exists("c")
    folder.remove_file("a")
    assert folder.sizes() == {"sub/b": 0}
    folder.remove()
    assert folder.sizes() == {}


def test_hidden_folders_are_beside_and_found_only_when_asked_for(tmp_path: Path) -> None:
    hidden = Folder.at(tmp_path / "x").hidden()
    hidden.make()
    root = Folder.at(tmp_path)
    assert hidden.parent == root
    assert root.folders() == []
    assert root.hidden_folders() == [hidden.name]


def test_what_others_write_is_seen_at_once(place: str) -> None:
    folder = Folder.at(place)
    folder.make()
    folder.write("a", b"1")
    assert set(folder.sizes()) == {"a"}
    # As another process would: past what this one's file system remembers.
    other, path = fsspec.core.url_to_fs(folder.path_of("b"), skip_instance_cache=True)
    other.pipe_file(path, b"2")
    assert set(folder.sizes()) == {"a", "b"}


def test_a_missing_file_is_named(place: str) -> None:
    with pytest.raises(ParameterServerError, match="/nothing could not be read") as caught:
        Folder.at(place).read("nothing")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_place_that_no_installed_package_opens_says_so() -> None:
    with pytest.raises(ParameterServerError, match="nowhere://x could not be listed.*nowhere"):
        Folder.at("nowhere://x").folders()


def test_a_store_that_cannot_be_reached_is_named(bucket: str) -> None:
    with pytest.raises(ParameterServerError, match="s3://no-such-bucket/x/f could not be written"):
        Folder.at("s3://no-such-bucket/x").write("f", b"")
