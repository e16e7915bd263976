"""Large local files, read and written with less of the system's cache.

What passes through the cache takes as much of its memory as it has bytes, pushes other files out of
it and costs the processor a copy. A file that is read to be loaded is not asked for again, so it is
read from the disk into memory that is used again for the next; one that is written is begun to be
put on the disk at once, so that flushing it has less to wait for.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import weakref
from collections import deque
from collections.abc import Iterator

import numpy as np

__all__ = ["DIRECT_BYTES", "Rooms", "begin_writing", "is_cached", "pieces_of"]

DIRECT_BYTES = 1 << 20
"""Of a file from which on it is worth it."""
_PIECE = 1 << 20
_BLOCK = 1 << 12
_HUGE_PAGE = 1 << 21
_DIRECT = getattr(os, "O_DIRECT", 0)
_SYSTEM = ctypes.CDLL(None)
_MINCORE = getattr(_SYSTEM, "mincore", None)
_SYNC_FILE_RANGE = getattr(_SYSTEM, "sync_file_range", None)  # of Linux
_SYNC_FILE_RANGE_WRITE = 2


class Rooms:
    """Memory for the contents of files; what nothing refers to any more is used again."""

    def __init__(self) -> None:
        # Rooms come back whenever the garbage collector runs, in any thread and also while this
        # one takes another: a lock would wait for itself.
        self._free: deque[np.ndarray] = deque()

    def take(self, nbytes: int) -> memoryview:
        """Return memory for a file of that size and the rest of its last block.

        It is free again when nothing refers to it, or to what was cut from it, any more. Forked
        children do not have it.
        """
        size = -(-nbytes // _BLOCK) * _BLOCK
        room = self._fitting(size)
        lease = room[:size]
        weakref.finalize(lease, self._free.append, room).atexit = False
        return lease.data

    def _fitting(self, size: int) -> np.ndarray:
        while True:
            try:
                room = self._free.popleft()
            except IndexError:
                return _new_room(size)
            # One that is too small is let go: few files are smaller than those before.
            if room.size >= size:
                return room


def is_cached(path: str) -> bool:
    """Whether the system has most of a local file, which must not be empty, in its cache."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pages = np.zeros(-(-len(content) // mmap.PAGESIZE), np.uint8)
        address = np.frombuffer(content, np.uint8).ctypes.data
        where = ctypes.c_void_p(address), ctypes.c_size_t(len(content))
        if _MINCORE is None or _MINCORE(*where, ctypes.c_void_p(pages.ctypes.data)):
            return True  # not known: as if it were
        return bool(2 * np.count_nonzero(pages & 1) > pages.size)


def pieces_of(path: str, room: memoryview) -> Iterator[memoryview]:
    """Read a local file into `room`; yield what came piece by piece, up to the file's end.

    From the disk as far as its file system can do without the system's cache, the rest as usual.

    Raises:
        OSError: it cannot be read.
    """
    at = 0
    for flag in (_DIRECT, 0):
        try:
            handle = os.open(path, os.O_RDONLY | flag)
        except OSError:
            if flag:
                continue  # what else is wrong with it shows without the flag
            raise
        try:
            # Past a part of a block nothing can be asked for directly: the end, or a short read.
            while at < len(room) and not (flag and at % _BLOCK):
                try:
                    count = os.preadv(handle, [room[at : at + _PIECE]], at)
                except OSError:
                    if flag:
                        break
                    raise
                if not count:
                    return
                yield room[at : at + count]
                at += count
        finally:
            os.close(handle)


def begin_writing(handle: int, start: int, stop: int) -> None:
    """Have the system begin to write bytes of an open file to the disk, if it knows how.

    It promises nothing: a flush is needed as before, which then has less to do.
    """
    if _SYNC_FILE_RANGE is not None:
        where = ctypes.c_int64(start), ctypes.c_int64(stop - start)
        _SYNC_FILE_RANGE(ctypes.c_int(handle), *where, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def _new_room(size: int) -> np.ndarray:
    size = max(-(-size // _HUGE_PAGE), 1) * _HUGE_PAGE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # After a fork the pages are copied when they are written, and what the disk is just bringing
    # may reach the other copy: children get none.
    for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):
        if hasattr(mmap, advice):
            with contextlib.suppress(OSError):  # a kernel built without it
                memory.madvise(getattr(mmap, advice))
    return np.frombuffer(memory, np.uint8)
