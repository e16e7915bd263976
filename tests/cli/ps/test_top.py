"""A picture that moves, until Ctrl-C."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.cli.ps.looks import Group
from weiml.cli.ps.top import Looks, watch


def test_looks_tell_what_happened_since_the_one_before() -> None:
    group = Group()
    times = iter([10.0, 12.0, 16.0])
    looks = Looks(group.status, lambda: next(times))
    group.work()
    assert looks.again()[1]["keys_per_s"] == 100
    group.work()
    group.work()
    status, rates = looks.again()
    assert (rates["seconds"], rates["keys_per_s"]) == (4.0, 100)
    assert status["pulls"] == 6


def test_the_picture_moves_on_a_screen_of_its_own_and_leaves_it() -> None:
    group = Group()
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    turns = iter(range(3))

    def wait() -> None:
        group.work()
        if next(turns, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(Looks(group.status), screen, wait)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("feed") == 4
    assert "0:3 1:0" in shown
    assert shown.index("\x1b[?1049h") < shown.index("feed")
    assert shown.rindex("feed") < shown.rindex("\x1b[?1049l")
