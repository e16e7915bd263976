"""Folders on any file system that fsspec opens, as checkpoints need them; knows no checkpoints.

A place is a path of this machine or a URL: ``file://``, ``s3://bucket/folder``, ``hdfs://``,
``gs://``, ``memory://``. What a file system needs to be let in comes from the environment, as its
fsspec implementation reads it. Local files are flushed to the disk, folders are renamed whole.
Elsewhere a file appears when it is closed.
"""

from __future__ import annotations

import mmap
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from weiml.errors import ParameterServerError

__all__ = ["Folder", "failing", "opened"]

_HIDDEN = ".partial"
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "r2", "b2"}


@contextmanager
def failing(place: str, what: str) -> Iterator[None]:
    """Name the place in any error of its file system; each has exceptions of its own."""
    try:
        yield
    except ParameterServerError:
        raise
    except ImportError as error:
        raise ParameterServerError(
            f"{place} could not be {what}: {error}; its fsspec implementation must be installed"
        ) from None
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ParameterServerError(f"{place} could not be {what}: {reason}") from error


@dataclass(frozen=True)
class Folder:
    """A folder that may exist. Its methods raise ParameterServerError, which names the place."""

    place: str
    """An absolute path of this machine, or a URL."""

    @classmethod
    def at(cls, place: str | Path) -> Folder:
        """Return the folder at a path, relative to the working directory or not, or a URL."""
        text = str(place)
        if text.startswith(("file://", "local://")):
            text = LocalFileSystem._strip_protocol(text)
        if "://" not in text:
            return cls(str(Path(text).absolute()))
        return cls(text if text.endswith("://") else text.rstrip("/"))

    def __str__(self) -> str:
        return self.place

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path_of(name))

    def path_of(self, name: str) -> str:
        """Return the path or URL of what is called `name` in here."""
        return f"{self.place}{name}" if self.place.endswith("/") else f"{self.place}/{name}"

    @property
    def is_local(self) -> bool:
        """Whether this is a path of this machine."""
        return "://" not in self.place

    @property
    def name(self) -> str:
        """The last part of the place."""
        return self.place.rpartition("/")[2]

    @property
    def parent(self) -> Folder:
        """The folder that this one lies in."""
        above = self.place.rpartition("/")[0]
        return Folder(f"{above}/" if above.endswith(":/") else above or "/")

    def hidden(self) -> Folder:
        """Return a new place beside this one, whose name starts with a dot."""
        return self.parent / f".{self.name}.{uuid.uuid4().hex[:8]}{_HIDDEN}"

    def hidden_folders(self) -> list[str]:
        """Return the names in here that `hidden` gave out."""
        names = self.folders(hidden=True)
        return [name for name in names if name.startswith(".") and name.endswith(_HIDDEN)]

    # Reading

    def exists(self, name: str = "") -> bool:
        """Whether the folder, or the file `name` in it, exists."""
        place = self.path_of(name) if name else self.place
        with failing(place, "looked at"):
            if self.is_local:
                return os.path.exists(place)
            fs, path = opened(place)
            return bool(fs.exists(path))

    def folders(self, *, hidden: bool = False) -> list[str]:
        """Return the names of the folders in here, sorted; none if this one does not exist."""
        with failing(self.place, "listed"):
            if self.is_local:
                names = _folders_in(self.place)
            else:
                fs, path = opened(self.place)
                try:
                    found = fs.ls(path, detail=True)
                except (FileNotFoundError, NotADirectoryError):
                    return []
                names = {
                    str(entry["name"]).rstrip("/").rpartition("/")[2]
                    for entry in found
                    if entry["type"] == "directory"
                    and str(entry["name"]).strip("/") != path.strip("/")
                }
        return sorted(name for name in names if hidden or not name.startswith("."))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file in here and below, by its path relative to here."""
        if self.is_local:
            with failing(self.place, "listed"):
                return dict(_sizes_below(self.place, ""))
        with failing(self.place, "listed"):
            fs, path = opened(self.place)
            try:
                found = fs.find(path, detail=True)
            except FileNotFoundError:
                return {}
        start = len(fs._strip_protocol(path).rstrip("/")) + 1
        return {str(name)[start:]: int(about["size"]) for name, about in found.items()}

    def read(self, name: str) -> memoryview:
        """Return the content of a file: a read-only map of it if it is local."""
        place = self.path_of(name)
        with failing(place, "read"):
            if not self.is_local:
                fs, path = opened(place)
                return memoryview(fs.cat_file(path))
            with open(place, "rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    return memoryview(b"")
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            content.madvise(mmap.MADV_SEQUENTIAL)
            return memoryview(content)

    # Writing

    def make(self) -> None:
        """Make the folder and those above it, where a file needs one to lie in."""
        if self.place.partition("://")[0] in _OBJECT_STORES:
            return  # and a bucket is not made by the way
        with failing(self.place, "made"):
            if self.is_local:
                os.makedirs(self.place, exist_ok=True)
                return
            fs, path = opened(self.place)
            fs.makedirs(path, exist_ok=True)

    def make_child(self, name: str) -> None:
        """Make a folder in this one, which must exist if it is local."""
        if not self.is_local:
            (self / name).make()
            return
        with failing(self.path_of(name), "made"):
            os.mkdir(self.path_of(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, to the disk if it is local."""
        place = self.path_of(name)
        with failing(place, "written"):
            if self.is_local:
                with open(place, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            else:
                fs, path = opened(place)
                fs.pipe_file(path, content)

    def sync(self, name: str = "") -> None:
        """See to it that the names in a local folder are on the disk."""
        if not self.is_local:
            return
        place = self.path_of(name) if name else self.place
        with failing(place, "written"):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def rename(self, target: Folder) -> None:
        """Give a local folder the place of `target`, which must not exist or be empty."""
        with failing(target.place, "written"):
            os.rename(self.place, target.place)

    def remove(self) -> None:
        """Remove the folder with all that is in it, if it exists."""
        with failing(self.place, "removed"):
            if self.is_local:
                shutil.rmtree(self.place)
                return
            fs, path = opened(self.place)
            if fs.exists(path):
                fs.rm(path, recursive=True)

    def remove_file(self, name: str) -> None:
        """Remove one file."""
        with failing(self.path_of(name), "removed"):
            fs, path = opened(self.path_of(name))
            fs.rm_file(path)


def _folders_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_dir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _sizes_below(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield path (below `prefix`) and bytes of each file of a local folder, if there is one."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir():
                yield from _sizes_below(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.stat().st_size


def opened(place: str) -> tuple[Any, str]:
    """Return the file system of a path or URL, and what it calls the place."""
    fs, path = fsspec.core.url_to_fs(place)
    fs.invalidate_cache()  # other processes write here too
    return fs, path
