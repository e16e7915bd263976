from __future__ import annotations

import os
from pathlib import Path

import pytest

from weiml.flow.engines.shell import ShellSession


def test_programs_are_run_by_argument_list(tmp_path: Path) -> None:
    session = ShellSession(tmp_path)
    assert session.run(["printf", "%s|", "a b", "$HOME", "*"]) == "a b|$HOME|*|"
    assert session.run(["sh", "-c", "echo $X; pwd"], env={"X": "1"}, cwd=tmp_path) == (
        f"1\n{tmp_path}\n"
    )
    session.close()


def test_what_a_program_leaves_running_ends_with_the_session(tmp_path: Path) -> None:
    session = ShellSession(tmp_path)
    pid = int(session.run(["sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!"]))
    os.kill(pid, 0)
    session.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    session.close()


def test_programs_that_ignore_the_signal_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weiml.flow.engines.shell._GRACE_S", 0.1)
    session = ShellSession(tmp_path)
    text = "(trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & echo $!"
    pid = int(session.run(["sh", "-c", text]))
    session.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
