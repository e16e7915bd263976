"""Stages on disk: a folder each, named by the digest of all that it is made of.

Layout of ``ROOT``: ``NAME-KEY/`` with what the stage made and ``stage.json``, and
``.NAME-KEY.unfinished/`` with what a stage that was broken off needs to go on. A stage is written
aside and renamed, so one that is there is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from weiml.data import ProgressCallback
from weiml.errors import DataError

__all__ = ["Stage", "StageStore"]

_FORMAT = 1
_RECORD = "stage.json"
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage that is done."""

    name: str
    key: str
    """Digest of its inputs, configuration and code, 16 hexadecimal digits."""
    folder: Path
    cached: bool
    """Whether it was there already."""
    resumed: bool = False
    """Whether it went on from what an earlier run had left."""
    seconds: float
    """That making it took, whenever that was."""
    about: dict[str, Any] = field(default_factory=dict)
    """What it tells of itself."""


Make = Callable[[Path, Path], Mapping[str, Any]]
"""Fills the first folder and returns what is to be told; the second outlives a crash."""


class StageStore:
    """The stages below a root folder, for one process at a time. A context manager.

    Args:
        root: made if it is not there.
        progress: told of each stage.

    Raises:
        DataError: on entering, when another process holds it.
    """

    def __init__(self, root: str | Path, progress: ProgressCallback | None = None) -> None:
        self.root = Path(root).absolute()
        self.stages: list[Stage] = []
        """Those of this run, in their order."""
        self._progress = progress
        self._lock: IO[str] | None = None

    def __enter__(self) -> StageStore:
        self.root.mkdir(parents=True, exist_ok=True)
        lock = (self.root / ".lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise DataError(
                f"another run works in {self.root}: wait for its end, or take another folder"
            ) from None
        self._lock = lock
        for left in self.root.glob(".*.writing"):
            shutil.rmtree(left, ignore_errors=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def tell(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Show how far the run is."""
        if self._progress is not None:
            self._progress(text, done, total)

    def stage(self, name: str, made_of: Mapping[str, Any], make: Make) -> Stage:
        """Return the stage `name` of these inputs, which is made unless it is there.

        Args:
            name: lower case, with dashes.
            made_of: all that it depends on, fit for JSON.
            make: makes it.
        """
        key = _key(name, made_of)
        found = self._found(name, key)
        if found is None:
            found = self._made(name, key, made_of, make)
        else:
            self.tell(f"{name}: cached")
        self.stages.append(found)
        return found

    def _found(self, name: str, key: str) -> Stage | None:
        folder = self.root / f"{name}-{key}"
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            whole = record["format"] == _FORMAT and record["key"] == key
            sizes = {file: (folder / file).stat().st_size for file in record["files"]}
            if not whole or sizes != record["files"]:
                raise ValueError("files have changed in size")
            return Stage(
                name=name,
                key=key,
                folder=folder,
                cached=True,
                seconds=float(record["seconds"]),
                about=dict(record["about"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if folder.exists():
                self.tell(f"{name}: {folder} is damaged ({error}), it is made again")
                shutil.rmtree(folder)
            return None

    def _made(self, name: str, key: str, made_of: Mapping[str, Any], make: Make) -> Stage:
        folder = self.root / f"{name}-{key}"
        aside = self.root / f".{name}-{key}.writing"
        left = self.root / f".{name}-{key}.unfinished"
        resumed = left.is_dir() and any(left.iterdir())
        self.tell(f"{name}: goes on" if resumed else f"{name}: begins")
        begun = time.perf_counter()
        aside.mkdir()
        try:
            about = dict(make(aside, left))
            seconds = time.perf_counter() - begun
            record = {"format": _FORMAT, "stage": name, "key": key, "seconds": seconds}
            record |= {"about": about, "made_of": dict(made_of), "files": _sizes(aside)}
            text = json.dumps(record, indent=1) + "\n"
            (aside / _RECORD).write_text(text, encoding="utf-8")
            os.rename(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in self.root.glob(f".{name}-{'?' * _DIGITS}.unfinished"):
            shutil.rmtree(old, ignore_errors=True)
        self.tell(f"{name}: done in {seconds:.1f} s")
        return Stage(
            name=name,
            key=key,
            folder=folder,
            cached=False,
            resumed=resumed,
            seconds=seconds,
            about=about,
        )


def _key(name: str, made_of: Mapping[str, Any]) -> str:
    text = json.dumps([_FORMAT, name, made_of], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
