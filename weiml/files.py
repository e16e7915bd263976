"""Files that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_aside"]


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end the file takes its place.

    If the body raises, or the file cannot take its place, `path` is as it was and nothing is left
    beside it. Names differ, so that several writers do not meet; the last one stays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with written_aside(path) as aside:
        ...     _ = aside.write_text("1 2 3")
        >>> path.read_text()
        '1 2 3'

    Raises:
        OSError: the folder is missing, or `path` is a folder.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
