"""The manifest of a node's outputs: each file with size and digest, and what steps reported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weiml.config import from_mapping, to_mapping
from weiml.errors import FlowError, WeimlError

__all__ = ["MANIFEST", "FileRecord", "Manifest", "OutputRecord", "digest_path", "record_output"]

MANIFEST = "manifest.json"
_FORMAT = "weiml.flow.manifest/1"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of an output."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class OutputRecord:
    """One output: its files, and a digest of their names and contents."""

    digest: str
    files: dict[str, Any] = field(default_factory=dict)
    """Relative path → FileRecord, as a mapping in JSON."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one committed attempt of a node made, and of what."""

    flow: str
    node: str
    run: str
    attempt: int
    key: str
    components: dict[str, Any]
    """What the key is made of, by name."""
    outputs: dict[str, Any]
    """Name → OutputRecord, as a mapping in JSON."""
    reports: dict[str, Any]
    step_seconds: dict[str, Any]
    seconds: float
    created: str
    """Time of the commit, ISO 8601, UTC."""
    format: str = _FORMAT

    def output_digest(self, name: str) -> str:
        """Digest of the contents of an output."""
        return str(self.outputs[name]["digest"])

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into the folder and force it to the disk."""
        with (folder / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(to_mapping(self), file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a committed folder.

        Raises:
            FlowError: there is none, or it is not one of this version.
        """
        path = folder / MANIFEST
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(tree, dict):
                raise ValueError("it holds no object")
            return from_mapping(cls, tree, where=str(path))
        except (OSError, ValueError, WeimlError) as error:
            raise FlowError(f"{path} is not a readable manifest ({error})") from None

    def damage(self, folder: Path) -> str | None:
        """Say what is missing or of another size than recorded; None if all is there."""
        for name, output in self.outputs.items():
            for relative, record in output["files"].items():
                file = folder / name / relative
                if not file.is_file():
                    return f"{file} is gone"
                if file.stat().st_size != record["bytes"]:
                    return f"{file} has changed in size"
        return None


def record_output(folder: Path) -> OutputRecord:
    """Digest the files below an output folder; the file names are part of the digest."""
    files: dict[str, Mapping[str, Any]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        record = FileRecord(bytes=file.stat().st_size, sha256=_sha256(file))
        files[file.relative_to(folder).as_posix()] = to_mapping(record)
    text = json.dumps(files, sort_keys=True)
    return OutputRecord(digest=hashlib.sha256(text.encode()).hexdigest(), files=dict(files))


def digest_path(path: Path) -> str:
    """Digest of a file's or folder's contents; "absent" when there is none."""
    if path.is_dir():
        return record_output(path).digest
    return _sha256(path) if path.is_file() else "absent"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
