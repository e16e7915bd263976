from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from weiml.config import to_mapping
from weiml.errors import FlowError
from weiml.flow.manifest import Manifest, digest_path, record_output


def make_manifest(**outputs: Any) -> Manifest:
    return Manifest(
        flow="f",
        node="a",
        run="f-1",
        attempt=1,
        key="k",
        components={"engine": "python"},
        outputs=outputs,
        reports={"auc": 0.5},
        step_seconds={"s": 0.1},
        seconds=0.2,
        created="2024-01-01T00:00:00+00:00",
    )


def test_records_have_size_and_digest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_bytes(b"abc")
    record = record_output(tmp_path)
    digest = hashlib.sha256(b"abc").hexdigest()
    assert record.files == {"sub/x": {"bytes": 3, "sha256": digest}}
    (tmp_path / "sub" / "x").rename(tmp_path / "y")
    assert record_output(tmp_path).digest != record.digest


def test_files_folders_and_nothing_have_digests(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    digests = {digest_path(tmp_path / "x"), digest_path(tmp_path), digest_path(tmp_path / "no")}
    assert len(digests) == 3
    assert "absent" in digests


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_bytes(b"abc")
    manifest = make_manifest(out=to_mapping(record_output(tmp_path / "out")))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert manifest.damage(tmp_path) is None


def test_missing_and_changed_files_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "out" / "x"
    file.parent.mkdir()
    file.write_bytes(b"abc")
    manifest = make_manifest(out=to_mapping(record_output(file.parent)))
    file.write_bytes(b"abcd")
    assert "changed in size" in str(manifest.damage(tmp_path))
    file.unlink()
    assert "is gone" in str(manifest.damage(tmp_path))


@pytest.mark.parametrize("text", [None, "", "[]", '{"flow": "f"}'])
def test_what_is_not_a_manifest_is_an_error(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(FlowError, match="not a readable manifest"):
        Manifest.read(tmp_path)
