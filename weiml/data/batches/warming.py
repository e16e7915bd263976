"""Having files read from the disk before they are needed.

What is mapped is read page by page, when it is touched; touched in random order that is slow. The
system is asked for whole files instead, while those before are used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["warmed"]

T = TypeVar("T")
_PIECE = 1 << 17  # of longer ones Linux may only read the beginning
_WILL_NEED = getattr(os, "POSIX_FADV_WILLNEED", None)


def warmed(items: Iterable[T], files: Callable[[T], Sequence[Path]]) -> Iterator[T]:
    """Yield items; the system reads the `files` of each while the item before it is used.

    One item more is taken than is asked for. It is a hint: errors show when files are used.
    """
    reader: threading.Thread | None = None
    before: list[T] = []
    try:
        for item in items:
            if reader is not None:
                reader.join()
            reader = threading.Thread(target=_ask_for, args=(files(item),), daemon=True)
            reader.start()
            yield from before
            before = [item]
        yield from before
    finally:
        if reader is not None:
            reader.join()


def _ask_for(paths: Sequence[Path]) -> None:
    if _WILL_NEED is None:
        return
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            for start in range(0, os.fstat(handle).st_size, _PIECE):
                os.posix_fadvise(handle, start, _PIECE, _WILL_NEED)
        except OSError:
            continue
        finally:
            os.close(handle)
