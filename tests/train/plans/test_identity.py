"""Identities: they change when contents do, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from weiml.errors import DataError
from weiml.train.plans.identity import code_digest, file_identity, folder_identity


def test_files_are_known_by_content_or_by_size_and_time(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("x")
    other.write_text("x")
    assert file_identity(str(one)) == file_identity(other.as_uri())
    before = [file_identity(str(one), how) for how in ("content", "stat")]
    one.write_text("yy")
    after = [file_identity(str(one), how) for how in ("content", "stat")]
    assert before[0] != after[0]
    assert before[1] != after[1]
    with pytest.raises(DataError, match="cannot be read"):
        file_identity(str(tmp_path / "none"))


def test_folders_are_known_by_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("1")
    first = folder_identity(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "z")
    assert folder_identity(tmp_path / "z") == first
    (tmp_path / "z" / "b" / "c").rename(tmp_path / "z" / "b" / "d")
    assert folder_identity(tmp_path / "z") != first


def test_the_code_has_one_digest() -> None:
    assert len(code_digest()) == 64
