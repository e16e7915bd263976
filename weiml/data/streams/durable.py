"""Files and folders that survive a loss of power: whole or not there, and theirs to one run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weiml.errors import ConfigError

__all__ = ["claim", "make_folder", "run_id", "sync", "write_text", "writing"]

_OWNER = ".run"


@contextmanager
def writing(place: Path) -> Iterator[Path]:
    """Give a path beside `place` to write to; then it is on the disk and becomes `place`.

    Nothing is left of it if what is inside raises.

    Raises:
        OSError: it cannot be written.
    """
    make_folder(place.parent)
    aside = place.with_name(f".{place.name}")
    try:
        yield aside
        sync(aside)
        aside.rename(place)
        sync(place.parent)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def write_text(place: Path, text: str) -> None:
    """Write a small file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with writing(place) as aside:
        aside.write_text(text, encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, on the disk too, where they are not there yet."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def run_id(folder: Path) -> str:
    """Return the name of the run that keeps its checkpoints in `folder`: made up once, then kept.

    Raises:
        OSError: it cannot be written.
    """
    place = folder / "run"
    if not place.exists():
        write_text(place, secrets.token_hex(8) + "\n")
    return place.read_text(encoding="utf-8").strip()


def claim(folder: Path, run: str, newest: int, allowed: int) -> None:
    """Make `folder` that of `run`, unless it holds parts that are not this run's.

    Args:
        folder: is made if it is not there.
        run: see `run_id`.
        newest: the largest number of its parts, 0 if there are none.
        allowed: the largest number that the run itself may have written.

    Raises:
        ConfigError: the parts are of another run, or of checkpoints that were deleted.
    """
    place = folder / _OWNER
    owner = place.read_text(encoding="utf-8").strip() if place.exists() else None
    if newest and (owner != run or newest > allowed):
        raise ConfigError(
            f"{folder} holds parts up to number {newest} that are not of this run's checkpoints, "
            "and going on would overwrite them: go on with the checkpoint_dir that they belong to, "
            "name an empty folder, or move them away"
        )
    if owner != run:
        write_text(place, run + "\n")
