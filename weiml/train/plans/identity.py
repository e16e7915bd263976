"""What a stage's key knows of files and of code: digests of their contents."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

import weiml
from weiml.errors import DataError

__all__ = ["code_digest", "file_identity", "folder_identity"]

# What a stage's result can depend on; serving, flows and reports it cannot.
_LAYERS = ("hashing", "features", "ps", "data", "group", "models", "train")


@functools.cache
def code_digest() -> str:
    """Return the digest of the sources that training runs; computed once a process."""
    root = Path(weiml.__file__).parent
    files = [file for layer in _LAYERS for file in sorted((root / layer).rglob("*.py"))]
    return _digest_of(files, root)


def file_identity(url: str, how: Literal["content", "stat"] = "content") -> str:
    """Return what changes when a file does.

    Args:
        url: a path, or whatever fsspec opens.
        how: SHA-256 of the content, or size and time; of files that are not local always what
            their file system says.

    Raises:
        DataError: it cannot be read.
    """
    fs, path = fsspec.core.url_to_fs(url)
    try:
        if how == "stat" or not isinstance(fs, LocalFileSystem):
            return str(fs.ukey(path))
        return _digest(Path(path))
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error}") from None


def folder_identity(folder: str | Path) -> str:
    """Return the digest of the names and contents of all files below a local folder."""
    root = Path(folder)
    return _digest_of(sorted(file for file in root.rglob("*") if file.is_file()), root)


def _digest_of(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root).as_posix()}\0{_digest(file)}\0".encode())
    return digest.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
