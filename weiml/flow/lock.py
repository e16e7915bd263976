"""One run at a time in a folder of runs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO

from weiml.errors import FlowError

__all__ = ["RunsLock"]


class RunsLock:
    """An exclusive lock on a folder of runs; the system drops it when the process ends, anyhow.

    Raises:
        FlowError: on entering, when another process holds it; the message names the process.
    """

    def __init__(self, folder: Path, flow: str) -> None:
        self._path = folder / "lock"
        self._flow = flow
        self._file: IO[str] | None = None

    def __enter__(self) -> RunsLock:
        file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with file:
                raise FlowError(
                    f"{self._path.parent} is in use by {self._holder(file)}; wait for it to end, "
                    "stop it, or give this run a folder of its own"
                ) from None
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"pid": os.getpid(), "flow": self._flow, "since": since}, file)
        file.flush()
        self._file = file
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()

    def _holder(self, file: IO[str]) -> str:
        file.seek(0)
        try:
            holder = json.load(file)
            return f"process {holder['pid']}, flow {holder['flow']!r}, since {holder['since']}"
        except (ValueError, KeyError):
            return "another run"
