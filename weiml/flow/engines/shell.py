"""The engine ``shell``: programs run as child processes, none of which outlives the node."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from weiml.errors import FlowError
from weiml.flow.context import NodeContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.graph import Node

__all__ = ["ShellEngine", "ShellSession"]

_GRACE_S = 5.0  # time to end after SIGTERM, before SIGKILL
_GONE_S = 5.0  # time for the system to clear away what was killed
_TAIL_LINES = 12


class ShellSession:
    """Runs programs by argument list, never through a shell.

    What a program leaves running in the background serves the node's later steps and is ended
    with the session.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def run(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program to its end and return its standard output.

        Raises:
            FlowError: the program is not found or ends with another status than 0; the message
                has the status and the last lines of standard error.
        """
        number = len(self._started)
        out, err = (self._folder / f"{number}.{stream}" for stream in ("stdout", "stderr"))
        try:
            with out.open("wb") as stdout, err.open("wb") as stderr:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,  # a group of its own, ended as one
                )
        except OSError as error:
            raise FlowError(
                f"program {argv[0]!r} cannot be run ({error}); check its name and PATH"
            ) from None
        self._started.append(process)
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_code != os.CLD_EXITED or ended.si_status != 0:
            raise FlowError(f"program {' '.join(argv)!r} {_how(ended)}; {_tail(err)}")
        return out.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End every process of the programs' groups."""
        while self._started:
            _end(self._started.pop())


def _how(ended: os.waitid_result | None) -> str:
    if ended is None or ended.si_code == os.CLD_EXITED:
        return f"ended with status {ended.si_status if ended else 'unknown'}"
    return f"was ended by {signal.Signals(ended.si_status).name}"


def _tail(file: Path) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return "the end of its stderr:\n" + "\n".join(lines) if lines else "its stderr is empty"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process group. Its leader is collected here and not before, which keeps the id ours."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GONE_S)):
        _signal(process.pid, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if process.poll() is not None and not _signal(process.pid, 0):
                return
            time.sleep(0.02)


def _signal(group: int, number: int) -> bool:
    """Signal a process group; False when it has no process any more."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


@register_engine
class ShellEngine(Engine):
    """Session: `ShellSession`; the step class ``shell.run`` uses it."""

    name = "shell"

    def open(self, node: Node, context: NodeContext) -> ShellSession:
        """Make a session whose logs lie in the attempt's scratch folder."""
        return ShellSession(context.scratch_dir)

    def close(self, session: ShellSession) -> None:
        """End what the node's programs left behind."""
        session.close()
