"""Checkpoints of a stream: state, positions and results in one folder that is whole or not there.

    FOLDER/run                   the name of the run, by which it knows its results
    FOLDER/checkpoint-00000012/
        manifest.json            version, number, positions, counts, and each file's size and CRC-32
        state/OPERATOR/NAME.arrow
        results/STREAM.arrow     what came since checkpoint 11, to be given to the sink

A checkpoint is written aside and renamed; then its results go to the sink. A run that dies in
between gives the sink the same results again when it goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from weiml.data.streams.durable import make_folder, run_id, sync
from weiml.errors import ConfigError, DataError

__all__ = ["Checkpoint", "Checkpoints"]

_VERSION = 2
_NAME = re.compile(r"checkpoint-(\d{8})")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One cut through a stream."""

    number: int
    manifest: dict[str, Any]
    """Plain JSON: positions, watermarks, counts and settings, as the run laid them down."""
    state: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    """Tables by operator and name."""
    results: dict[str, pa.Table] = field(default_factory=dict)
    """What came since the checkpoint before, by stream."""


class Checkpoints:
    """A folder of checkpoints that one run at a time may use. Not thread-safe.

    Args:
        folder: is made if it is not there.
        keep: how many of the newest checkpoints stay.

    Raises:
        ConfigError: another run uses the folder, or `keep` is below 1.
    """

    def __init__(self, folder: str | Path, keep: int = 3) -> None:
        if keep < 1:
            raise ConfigError(f"keep must be at least 1, got {keep}")
        self.folder = Path(folder)
        self._keep = keep
        make_folder(self.folder)
        self._lock: IO[str] | None = (self.folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(
                f"checkpoint_dir = {self.folder} is in use by another run; end it, or give this "
                "one a folder of its own"
            ) from None
        self.run = run_id(self.folder)
        """The name of the run whose checkpoints these are, by which it knows its results."""

    def close(self) -> None:
        """Let other runs use the folder. May be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def numbers(self) -> list[int]:
        """Return the numbers of all checkpoints there are, rising."""
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; it is there as a whole when this returns, and old ones are gone.

        Raises:
            DataError: it could not be written; what was there before is as it was.
        """
        place = self._place(checkpoint.number)
        aside = self.folder / f".writing-{checkpoint.number:08d}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            _write(aside, checkpoint)
            shutil.rmtree(place, ignore_errors=True)  # a damaged one that was not loaded
            aside.rename(place)
            sync(self.folder)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise DataError(f"{place} could not be written: {error}") from None
        for number in self.numbers()[: -self._keep]:
            shutil.rmtree(self._place(number), ignore_errors=True)

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest checkpoint that is whole, and what is wrong with newer ones.

        Raises:
            DataError: there are checkpoints, but none is whole.
        """
        wrong: list[str] = []
        numbers = self.numbers()
        for number in reversed(numbers):
            try:
                return _read(self._place(number)), wrong
            except (DataError, OSError, ValueError, KeyError, pa.ArrowException) as error:
                wrong.append(f"{self._place(number)} is damaged: {error}")
        if numbers:
            raise DataError(
                f"no checkpoint in {self.folder} is whole: {'; '.join(wrong)}. Restore one from a "
                "backup, or begin anew in an empty folder"
            )
        return None, wrong

    def oldest(self) -> dict[str, Any] | None:
        """Return the manifest of the oldest checkpoint, as far back as `load` may ever go.

        None if there is none, or it cannot be read: then nothing is known.
        """
        try:
            place = self._place(self.numbers()[0]) / "manifest.json"
            return dict(json.loads(place.read_text(encoding="utf-8"))["run"])
        except (IndexError, OSError, ValueError, KeyError, TypeError):
            return None

    def discard_after(self, number: int) -> None:
        """Delete checkpoints later than `number`, and what was never finished."""
        for later in self.numbers():
            if later > number:
                shutil.rmtree(self._place(later))
        for aside in self.folder.glob(".writing-*"):
            shutil.rmtree(aside, ignore_errors=True)

    def _place(self, number: int) -> Path:
        return self.folder / f"checkpoint-{number:08d}"


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    files: dict[str, dict[str, int]] = {}
    for operator, tables in checkpoint.state.items():
        for name, table in tables.items():
            _write_table(folder, f"state/{operator}/{name}.arrow", table, files)
    for stream, table in checkpoint.results.items():
        _write_table(folder, f"results/{stream}.arrow", table, files)
    manifest = {
        "version": _VERSION,
        "number": checkpoint.number,
        "files": files,
        "run": checkpoint.manifest,
    }
    with (folder / "manifest.json").open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for below, _, _ in os.walk(folder):
        sync(Path(below))


def _write_table(
    folder: Path, name: str, table: pa.Table, files: dict[str, dict[str, int]]
) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    files[name] = {"bytes": data.size, "crc32": zlib.crc32(data)}


def _read(folder: Path) -> Checkpoint:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["version"] != _VERSION:
        raise DataError(f"it is of version {manifest['version']}, this reads {_VERSION}")
    state: dict[str, dict[str, pa.Table]] = {}
    results: dict[str, pa.Table] = {}
    for name, told in manifest["files"].items():
        data = (folder / name).read_bytes()
        if len(data) != told["bytes"] or zlib.crc32(data) != told["crc32"]:
            raise DataError(f"{name} is not as it was written")
        table = pa.ipc.open_file(data).read_all()
        parts = name.removesuffix(".arrow").split("/")
        if parts[0] == "state":
            state.setdefault(parts[1], {})[parts[2]] = table
        else:
            results[parts[1]] = table
    return Checkpoint(
        number=manifest["number"], manifest=manifest["run"], state=state, results=results
    )
