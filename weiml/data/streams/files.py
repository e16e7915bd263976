"""Events from files that grow: each line is one, read once it has its newline.

A file is known by device and inode and by what it holds, so it may be renamed (log rotation), cut
off and begun anew, or copied back from a backup. Positions are bytes.
"""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weiml.data.streams.base import EventSource, Positions, RawEvents
from weiml.data.streams.json_lines import compact
from weiml.data.streams.tail import Tail, same_content
from weiml.errors import ConfigError, DataError

__all__ = ["GrowingFiles"]

log = logging.getLogger(__name__)

_WAIT_S = 0.02  # between two looks at files that have not grown


class GrowingFiles(EventSource):
    """Reads lines of all files of a folder or of glob patterns, new ones too.

    A partition is a file, ``DEVICE:INODE:GENERATION`` as it was when it was found: the name stays
    when the file is renamed, so that which events are late does not depend on log rotation (``find
    FOLDER -inum INODE`` tells the path). With `sequence` all files have one clock: they are read in
    the order of their names, so that event time runs through them.

    Lines that are empty are passed over. A line that is written in one piece is never read in half.

    Args:
        paths: folders (all their files, but for hidden ones) and patterns.
        sequence: the files are one log, cut into files named in order.
        closed: the files grow no more: their last lines need no newline.
        skip_header: pass over the first line of each file, as of CSV.
        delete_read: delete a file once all checkpoints that are kept hold all of it, and that a
            later one of the same folder was there: for logs that nobody else reads.
        max_event_bytes: the longest line that is put up with.
        discover_every_s: how often to look for new files.
        forget_after_s: how long a file that is gone or renamed beyond the patterns is still looked
            at, for writers that have it open.

    Raises:
        ConfigError: no path is given, or a number is below what makes sense.
    """

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        sequence: bool = False,
        closed: bool = False,
        skip_header: bool = False,
        delete_read: bool = False,
        max_event_bytes: int = 16 << 20,
        discover_every_s: float = 1.0,
        forget_after_s: float = 60.0,
    ) -> None:
        given = [paths] if isinstance(paths, (str, Path)) else list(paths)
        if not given:
            raise ConfigError("paths is empty: name a folder or a pattern of files")
        if max_event_bytes < 1:
            raise ConfigError(f"max_event_bytes must be at least 1, got {max_event_bytes}")
        self._paths = [str(path) for path in given]
        self._sequence = sequence
        self._ended = closed
        self._skip_header = skip_header
        self._delete_read = delete_read
        self._max_event_bytes = max_event_bytes
        self._discover_every_s = discover_every_s
        self._forget_after_s = forget_after_s
        self._tails: dict[tuple[int, int], Tail] = {}
        self._generations: dict[tuple[int, int], int] = {}  # the next one of an inode
        self._looked = -float("inf")
        self._turn = 0
        self._bytes_per_event = 128.0
        self._discover()

    def partitions(self) -> tuple[str, ...]:
        """See `EventSource.partitions`."""
        return tuple(tail.name for tail in self._tails.values())

    def clock(self, partition: str) -> str:
        """Return the one clock of a sequence, else each file's own."""
        return self._paths[0] if self._sequence else partition

    def poll(self, max_events: int, timeout_s: float) -> RawEvents:
        """See `EventSource.poll`."""
        until = time.monotonic() + timeout_s
        while True:
            if time.monotonic() - self._looked >= self._discover_every_s:
                self._discover()
            parts = self._read(max_events)
            if parts or time.monotonic() >= until:
                return RawEvents.concat(parts)
            time.sleep(min(_WAIT_S, max(until - time.monotonic(), 0.0)))

    def seek(self, positions: Positions) -> None:
        """Find the files of `positions` again, renamed or not; others are read from their start.

        A file that is nowhere to be found is told as a warning: what it held behind its position is
        lost.

        Raises:
            DataError: of a `sequence` a file is gone that was not known to be read to its end, and
                later ones are there.
        """
        self.close()
        self._generations.clear()
        found = {_inode(path): path for path in self._candidates(positions)}
        for name, position in positions.items():
            self._pass_over(name)
            path = found.get((position["device"], position["inode"]))
            if path is None or not same_content(path, position):
                path = Path(position["path"])  # copied back: another inode, the same bytes
            if not same_content(path, position):
                self._tell_lost(position)
                continue
            tail = Tail.open(path, time.monotonic(), name, position["offset"])
            self._tails[tail.identity] = tail
        self._discover()

    def position(self) -> Positions:
        """See `EventSource.position`."""
        done = self._done()
        return {
            tail.name: {**tail.position(), "done": tail.name in done}
            for tail in self._tails.values()
        }

    def lag(self) -> dict[str, int]:
        """Return the bytes that wait in each file, a half line that was looked at aside."""
        return {tail.name: tail.waiting for tail in self._tails.values()}

    def saved(self, newest: Positions, oldest: Positions | None) -> None:
        """Delete files that all checkpoints hold and that others follow, with `delete_read`."""
        if not self._delete_read or oldest is None:
            return
        done = self._done()
        for identity, tail in list(self._tails.items()):
            position = oldest.get(tail.name, {"done": False})
            if position["done"] and tail.name in done and position["offset"] == tail.offset:
                with suppress(FileNotFoundError):
                    if _inode(tail.path) == identity:  # it may have been renamed just now
                        tail.path.unlink()
                self._forget(identity)

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def _read(self, max_events: int) -> list[RawEvents]:
        """Return lines from the files, each in turn, until there are enough."""
        parts: list[RawEvents] = []
        taken = 0
        for tail in self._in_turn():
            if tail.restart_if_cut():
                log.warning("%s was cut off and is read from its beginning", tail.path)
                tail.name = self._new_name(tail.identity)
            while tail.waiting and taken < max_events:
                more = self._lines(tail, max_events - taken)
                taken += sum(map(len, more))
                parts += more
            if taken >= max_events:
                break
        return parts

    def _in_turn(self) -> list[Tail]:
        tails = sorted(self._tails.values(), key=lambda tail: str(tail.path))
        if self._sequence or not tails:
            return tails
        self._turn = (self._turn + 1) % len(tails)
        return tails[self._turn :] + tails[: self._turn]

    def _lines(self, tail: Tail, max_events: int) -> list[RawEvents]:
        guess = int(self._bytes_per_event * max_events * 1.1) + 4096
        data = tail.lines(
            min(guess, max(self._max_event_bytes, 1 << 20)), self._max_event_bytes, self._ended
        )
        if not data:
            return []
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        first = int(self._skip_header and tail.offset == 0)
        ends = ends[: max_events + first]
        start = tail.offset
        bounds = np.concatenate([[0], ends])
        tail.advance(min(start + int(ends[-1]), tail.size), time.monotonic())
        self._bytes_per_event = max(float(ends[-1]) / len(ends), 2.0)
        raw = _events(tail.name, data, bounds[first:], start)
        return [raw] if len(raw) else []

    def _discover(self) -> None:
        """Take up new files, follow renamed ones, let go of those that are gone."""
        self._looked = time.monotonic()
        there = set()
        for path in self._matching():
            try:
                identity = _inode(path)
                if identity not in self._tails:
                    self._tails[identity] = Tail.open(path, self._looked, self._new_name(identity))
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    log.warning("%s cannot be read: %s", path, error)
                continue
            self._tails[identity].path = path
            there.add(identity)
        for identity, tail in list(self._tails.items()):
            silent = self._looked - tail.read_at >= self._forget_after_s
            if identity not in there and silent and not tail.waiting:
                self._forget(identity)

    def _forget(self, identity: tuple[int, int]) -> None:
        tail = self._tails.pop(identity)
        if tail.offset < tail.size:
            log.warning("%s ends in half a line, from byte %d on", tail.path, tail.offset)
        tail.close()

    def _done(self) -> set[str]:
        """Return the names of files that are read to their end while a later one is there."""
        last: dict[Path, str] = {}
        for tail in self._tails.values():
            folder = tail.path.parent
            last[folder] = max(last.get(folder, ""), tail.path.name)
        return {
            tail.name
            for tail in self._tails.values()
            if not tail.waiting and tail.path.name < last[tail.path.parent]
        }

    def _new_name(self, identity: tuple[int, int]) -> str:
        """Return a name that no other file had: inodes are used again, and files cut off."""
        generation = self._generations.get(identity, 0)
        self._generations[identity] = generation + 1
        return f"{identity[0]}:{identity[1]}:{generation}"

    def _pass_over(self, name: str) -> None:
        """Never give a name of a checkpoint to another file: it would take over its clock."""
        device, inode, generation = map(int, name.split(":"))
        known = self._generations.get((device, inode), 0)
        self._generations[device, inode] = max(known, generation + 1)

    def _tell_lost(self, position: dict[str, Any]) -> None:
        """Warn of a file that is gone, or raise if it leaves a gap in a sequence."""
        path, offset = Path(position["path"]), position["offset"]
        if position["done"]:
            log.info("%s is gone; it had been read to its end", path)
        elif self._sequence and any(
            other.parent == path.parent and other.name > path.name for other in self._matching()
        ):
            raise DataError(
                f"{path} is gone, and the checkpoint knows it up to byte {offset} only, while "
                f"files that follow it are there: what came after that is lost. Bring it back from "
                f"a backup, or begin anew with an empty checkpoint_dir"
            )
        elif offset == position["size"]:
            log.info("%s is gone; it had been read to its end", path)
        else:
            log.warning(
                "%s, read up to byte %d, is gone or was cut off: what came after that is lost",
                path,
                offset,
            )

    def _matching(self) -> list[Path]:
        """Return the files that the paths name now."""
        found: set[Path] = set()
        for text in self._paths:
            path = Path(text)
            entries = path.iterdir() if path.is_dir() else map(Path, glob.glob(text))
            found |= {entry for entry in entries if not entry.name.startswith(".")}
        return sorted(path for path in found if path.is_file())

    def _candidates(self, positions: Positions) -> list[Path]:
        """Return files that those of `positions` may be now, were they renamed."""
        folders = {Path(position["path"]).parent for position in positions.values()}
        beside = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return [path for path in {*self._matching(), *beside} if path.is_file()]


def _inode(path: Path) -> tuple[int, int]:
    told = os.stat(path)
    return told.st_dev, told.st_ino


def _events(partition: str, data: bytes, bounds: np.ndarray, start: int) -> RawEvents:
    """Return the lines of `data` that are not empty; it stands at byte `start` of its file."""
    lengths = np.diff(bounds)
    kept = lengths > 1
    offsets = start + bounds[:-1]
    if kept.all():
        first, last = int(bounds[0]), int(bounds[-1])
        buffer, bounds = pa.py_buffer(data).slice(first, last - first), bounds - first
    else:
        text, bounds = compact(np.frombuffer(data, np.uint8), bounds, kept)
        buffer, offsets = pa.py_buffer(text), offsets[kept]
    return RawEvents(
        partitions=(partition,),
        partition=np.zeros(len(offsets), np.int32),
        offsets=offsets,
        bounds=bounds,
        data=buffer,
        times=np.full(len(offsets), time.time_ns() // 1_000_000),
    )
