from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from weiml.errors import FlowError
from weiml.flow.ledger import Ledger, State


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite3") as opened:
        yield opened


def start(ledger: Ledger, run: int, node: str = "a", key: str = "k") -> int:
    return ledger.start_attempt(run, node, key=key, components={"x": "1"}, reason="first run")


def states(ledger: Ledger, run: int) -> dict[str, str]:
    return {row["node"]: row["state"] for row in ledger.run_nodes(run)}


def published() -> None:
    """Stands for a rename."""


def test_a_node_goes_from_pending_to_committed(ledger: Ledger) -> None:
    run = ledger.start_run("f", "{}", ["a", "b"])
    assert states(ledger, run) == {"a": "pending", "b": "pending"}
    attempt = start(ledger, run)
    ledger.plan_folder(attempt, "artifacts/a")
    assert ledger.committed("f", "a", "k") == []
    ledger.commit(attempt, published)
    assert ledger.committed("f", "a", "k") == [(attempt, "artifacts/a")]
    assert ledger.committed("f", "a", "other") == []
    assert ledger.last_components("f", "a") == {"x": "1"}
    ledger.finish_run(run, State.FAILED)
    assert states(ledger, run) == {"a": "succeeded", "b": "skipped"}


def test_only_the_current_attempt_commits(ledger: Ledger) -> None:
    run = ledger.start_run("f", "{}", ["a"])
    zombie = start(ledger, run)
    current = start(ledger, run)
    called: list[int] = []
    with pytest.raises(FlowError, match=f"current attempt is {current}"):
        ledger.commit(zombie, lambda: called.append(1))
    assert called == []
    ledger.commit(current, published)
    with pytest.raises(FlowError, match="may not commit: it is succeeded"):
        ledger.commit(current, published)


def test_a_publication_that_fails_is_not_entered(ledger: Ledger) -> None:
    run = ledger.start_run("f", "{}", ["a"])
    attempt = start(ledger, run)

    def fails() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.commit(attempt, fails)
    assert states(ledger, run) == {"a": "running"}


def test_transitions_are_checked(ledger: Ledger) -> None:
    run = ledger.start_run("f", "{}", ["a", "b"])
    with pytest.raises(FlowError, match="cannot go from pending to failed"):
        ledger.end_node(run, "a", State.FAILED)
    ledger.use_cached(run, "a", 1, "unchanged")
    with pytest.raises(FlowError, match="cannot go from cached to running"):
        start(ledger, run)
    ledger.finish_run(run, State.SUCCEEDED)
    with pytest.raises(FlowError, match="cannot go from succeeded to failed"):
        ledger.finish_run(run, State.FAILED)


def test_the_dead_are_found_lost_unless_they_published(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with Ledger(path) as first:
        run = first.start_run("f", "{}", ["a", "b", "c"])
        done, dead = start(first, run, "a"), start(first, run, "b")
        first.plan_folder(done, "there")
        first.plan_folder(dead, "not there")
    with Ledger(path) as second:
        assert second.recover(lambda folder: folder == "there") == ["b"]
        assert states(second, run) == {"a": "succeeded", "b": "lost", "c": "skipped"}
        assert second.committed("f", "a", "k") == [(done, "there")]
        found = second.find_run("f")
        assert found is not None
        assert found["state"] == "lost"
        assert second.recover(lambda folder: False) == []


def test_runs_are_found_by_flow_and_number(ledger: Ledger) -> None:
    runs = [ledger.start_run(flow, "{}", ["a"]) for flow in ("f", "g", "f")]
    for flow, number, expected in [("f", None, 2), ("g", None, 1), ("f", runs[0], 0)]:
        found = ledger.find_run(flow, number)
        assert found is not None
        assert found["id"] == runs[expected]
    assert ledger.find_run("h") is None
    assert ledger.find_run("g", runs[0]) is None


def test_a_file_that_is_no_ledger_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_text("something else, long enough to be taken for a damaged database")
    with pytest.raises(FlowError, match="not a usable ledger"):
        Ledger(path)
