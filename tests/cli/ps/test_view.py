"""What ``weiml ps top`` shows, in the width of a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from tests.cli.ps.looks import Group
from weiml.cli.ps.view import picture
from weiml.ps.metrics.rates import between


def shown(before: dict[str, Any], now: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(picture(now, between(before, now, 2.0)))
    return captured.get().splitlines()


def test_a_group_at_work_fits_a_terminal_with_all_its_numbers() -> None:
    group = Group()
    before = group.status()
    for _ in range(3):
        group.work()
    group.work(1)
    lines = shown(before, group.status())
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in "".join(lines)
    head = "feed running 2 shards × 2 replicas 2 workers SSP(8) map version 0"
    assert " ".join(lines[0].split()) == head
    assert lines[1].startswith("150 rows  ")
    heads = "SHARD ROWS MIB KEYS/S PULL/S PUSH/S PULL MS PUSH MS WAIT LAG"
    assert lines[3].split() == heads.split()
    everything = next(line for line in lines if line.startswith("all")).split()
    # 4 steps of 100 keys pulled and pushed on two shards in 2 s.
    assert everything[1] == "150"
    assert everything[3:6] == ["400", "4", "4"]
    assert everything[-1] == "3"
    assert float(everything[6]) == pytest.approx(2.0, rel=0.2)
    assert any("clocks 0:3 1:1  fastest 2 ticks ahead" in line for line in lines)
    assert any(line.startswith("hot keys of wide, by share of requests: ") for line in lines)


def test_numbers_of_a_large_group_fit_too() -> None:
    group = Group(num_shards=4, num_workers=40)
    before, now = group.status(), group.status()
    for shard in now["shards"]:
        shard |= {"rows": 10**9, "bytes": 21 << 30, "keys": 10**8, "pulls": 10**6, "pushes": 10**5}
    now |= {"rows": 4 * 10**9, "bytes": 84 << 30}
    lines = shown(before, now)
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in "".join(lines[:9])
    assert any("slowest 0:0 1:0 2:0" in line for line in lines)


def test_an_idle_group_shows_no_rates() -> None:
    group = Group(num_shards=1)
    lines = shown(group.status(), group.status())
    assert not any(line.startswith(("all", "hot keys")) for line in lines)
    assert any(line.split()[-4:-2] == ["-", "-"] for line in lines if line.startswith("0 "))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"degraded": [1, 3]}, "without all replicas: shard 1, 3"),
        ({"lost": {2: "and with it all"}}, "shard 2 is gone, and with it all"),
        ({"lost_writes": 1234}, "lost writes: 1,234"),
        ({"dropped_pushes": 5}, "dropped pushes: 5"),
        ({"error": "disk full"}, "last error: disk full"),
    ],
)
def test_troubles_are_said(changes: dict[str, Any], line: str) -> None:
    group = Group()
    group.changes = changes
    assert line in shown(group.status(), group.status())
    group.changes = {}
    assert line not in shown(group.status(), group.status())


def test_what_policies_turned_away_has_a_column_only_where_there_is_some() -> None:
    group = Group(num_shards=1)
    now = group.status()
    assert "EXPIRED" not in "".join(shown(now, now))
    now["shards"][0]["table_details"]["wide"]["expired"] = 7
    lines = shown(now, now)
    heads = next(line for line in lines if line.startswith("TABLE")).split()
    assert heads == ["TABLE", "ROWS", "MIB", "EXPIRED"]
    assert next(line for line in lines if line.startswith("wide")).split()[-1] == "7"
