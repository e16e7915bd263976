"""The ledger: runs, nodes and attempts in SQLite, with checked transitions of state.

Each method is one transaction. The ledger knows nothing of what a node does; it decides who may
commit (fencing): only the attempt that is the node's current one.
"""

from __future__ import annotations

import enum
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weiml.errors import FlowError

__all__ = ["Ledger", "State"]


class State(enum.Enum):
    """State of a run, a node or an attempt."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    LOST = "lost"
    """The process died without a word; found out by the next run."""


_NEXT: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.RUNNING, State.CACHED, State.SKIPPED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST}),
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, flow TEXT NOT NULL, state TEXT NOT NULL,
    pid INTEGER NOT NULL, started REAL NOT NULL, finished REAL, graph TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS nodes (
    run INTEGER NOT NULL REFERENCES runs(id), node TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT, attempt INTEGER, started REAL, finished REAL, PRIMARY KEY (run, node));
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL REFERENCES runs(id),
    flow TEXT NOT NULL, node TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL,
    key TEXT NOT NULL, components TEXT NOT NULL, folder TEXT,
    started REAL NOT NULL, finished REAL, error TEXT);
CREATE INDEX IF NOT EXISTS attempts_by_key ON attempts (flow, node, key, state);
"""


class Ledger:
    """A ledger file, opened by one process; use it from one thread, and as a context manager."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise FlowError(
                f"{path} is not a usable ledger ({error}); move it away to start a new one, at the "
                "price of running all nodes again"
            ) from None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def start_run(self, flow: str, graph: str, nodes: Sequence[str]) -> int:
        """Enter a run, its nodes pending; returns its number."""
        with self._transaction():
            run = self._db.execute(
                "INSERT INTO runs (flow, state, pid, started, graph) VALUES (?, ?, ?, ?, ?)",
                (flow, State.RUNNING.value, os.getpid(), time.time(), graph),
            ).lastrowid
            self._db.executemany(
                "INSERT INTO nodes (run, node, state) VALUES (?, ?, ?)",
                [(run, node, State.PENDING.value) for node in nodes],
            )
        return _number(run)

    def finish_run(self, run: int, state: State) -> None:
        """End a run; nodes that were not reached are skipped."""
        with self._transaction():
            self._move("runs", "id = ?", (run,), state, finished=time.time())
            for row in self._rows(
                "SELECT node FROM nodes WHERE run = ? AND state = 'pending'", run
            ):
                self._move_node(run, row["node"], State.SKIPPED)

    def use_cached(self, run: int, node: str, attempt: int, reason: str) -> None:
        """A node's outputs are those of an earlier attempt."""
        now = time.time()
        with self._transaction():
            fields = {"attempt": attempt, "reason": reason, "started": now, "finished": now}
            self._move_node(run, node, State.CACHED, **fields)

    def start_attempt(
        self, run: int, node: str, *, key: str, components: Mapping[str, str], reason: str
    ) -> int:
        """Enter an attempt, which becomes the node's current one; returns its number."""
        with self._transaction():
            row = self._one("SELECT * FROM nodes WHERE run = ? AND node = ?", run, node)
            number = self._one(
                "SELECT count(*) AS n FROM attempts WHERE run = ? AND node = ?", run, node
            )["n"]
            flow = self._one("SELECT flow FROM runs WHERE id = ?", run)["flow"]
            now = time.time()
            attempt = _number(
                self._db.execute(
                    "INSERT INTO attempts (run, flow, node, number, state, key, components, "
                    "started) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(run, flow, node, number + 1, State.RUNNING.value, key),
                        *(json.dumps(components), now),
                    ),
                ).lastrowid
            )
            if row["state"] != State.RUNNING.value:
                self._move_node(run, node, State.RUNNING, started=now, reason=reason)
            self._db.execute(
                "UPDATE nodes SET attempt = ? WHERE run = ? AND node = ?", (attempt, run, node)
            )
        return attempt

    def plan_folder(self, attempt: int, folder: str) -> None:
        """Say where the attempt's outputs will appear, relative to the folder of runs."""
        with self._transaction():
            self._db.execute("UPDATE attempts SET folder = ? WHERE id = ?", (folder, attempt))

    def commit(self, attempt: int, publish: Callable[[], None]) -> None:
        """Call `publish`, which makes the outputs visible, and enter success.

        If the process dies between the two, ``recover`` finds the outputs and enters it.

        Raises:
            FlowError: the attempt is not its node's current one, or has ended already.
        """
        with self._transaction():
            row = self._one("SELECT * FROM attempts WHERE id = ?", attempt)
            node = self._one(
                "SELECT * FROM nodes WHERE run = ? AND node = ?", row["run"], row["node"]
            )
            if node["attempt"] != attempt or row["state"] != State.RUNNING.value:
                raise FlowError(
                    f"attempt {attempt} of node {row['node']!r} may not commit: it is "
                    f"{row['state']} and the node's current attempt is {node['attempt']}"
                )
            publish()
            now = time.time()
            self._move("attempts", "id = ?", (attempt,), State.SUCCEEDED, finished=now)
            self._move_node(row["run"], row["node"], State.SUCCEEDED, finished=now)

    def is_committed(self, attempt: int) -> bool:
        """Whether an attempt's outputs are visible and entered."""
        row = self._one("SELECT state FROM attempts WHERE id = ?", attempt)
        return State(row["state"]) is State.SUCCEEDED

    def end_attempt(self, attempt: int, state: State, error: str) -> None:
        """An attempt failed or was cancelled; the node may still get another one."""
        with self._transaction():
            fields = {"finished": time.time(), "error": error}
            self._move("attempts", "id = ?", (attempt,), state, **fields)

    def end_node(self, run: int, node: str, state: State) -> None:
        """A running node failed or was cancelled for good."""
        with self._transaction():
            self._move_node(run, node, state, finished=time.time())

    def recover(self, is_published: Callable[[str], bool]) -> list[str]:
        """Close what dead runs left open; call only while no other run can be alive.

        Args:
            is_published: whether the outputs in a folder, as given to ``plan_folder``, are visible.

        Returns:
            Names of the nodes found lost.
        """
        lost = []
        with self._transaction():
            for row in self._rows("SELECT * FROM attempts WHERE state = 'running'"):
                done = row["folder"] is not None and is_published(row["folder"])
                state = State.SUCCEEDED if done else State.LOST
                self._move("attempts", "id = ?", (row["id"],), state, finished=time.time())
                self._move_node(row["run"], row["node"], state, finished=time.time())
                lost += [] if done else [row["node"]]
            for row in self._rows("SELECT * FROM nodes WHERE state = 'running'"):
                self._move_node(row["run"], row["node"], State.LOST, finished=time.time())
            self._db.execute(
                "UPDATE nodes SET state = 'skipped' WHERE state = 'pending' AND run IN "
                "(SELECT id FROM runs WHERE state = 'running')"
            )
            for row in self._rows("SELECT id FROM runs WHERE state = 'running'"):
                self._move("runs", "id = ?", (row["id"],), State.LOST, finished=time.time())
        return lost

    def committed(self, flow: str, node: str, key: str) -> list[tuple[int, str]]:
        """Attempts that committed outputs for this key, newest first: number and folder."""
        rows = self._rows(
            "SELECT id, folder FROM attempts WHERE flow = ? AND node = ? AND key = ? AND "
            "state = 'succeeded' ORDER BY id DESC",
            *(flow, node, key),
        )
        return [(row["id"], row["folder"]) for row in rows]

    def last_components(self, flow: str, node: str) -> dict[str, str] | None:
        """Components of the key of the node's last committed attempt."""
        rows = self._rows(
            "SELECT components FROM attempts WHERE flow = ? AND node = ? AND state = 'succeeded' "
            "ORDER BY id DESC LIMIT 1",
            *(flow, node),
        )
        return json.loads(rows[0]["components"]) if rows else None

    def find_run(self, flow: str | None = None, run: int | None = None) -> dict[str, Any] | None:
        """The run with this number, or the last one (of a flow); None if there is none."""
        rows = self._rows(
            "SELECT * FROM runs WHERE (:flow IS NULL OR flow = :flow) AND (:run IS NULL OR "
            "id = :run) ORDER BY id DESC LIMIT 1",
            {"flow": flow, "run": run},
        )
        return dict(rows[0]) if rows else None

    def run_nodes(self, run: int) -> list[dict[str, Any]]:
        """The run's nodes, each with its current attempt's key, folder, error and attempts made."""
        rows = self._rows(
            "SELECT nodes.*, attempts.key, attempts.folder, attempts.error, (SELECT count(*) FROM "
            "attempts AS made WHERE made.run = nodes.run AND made.node = nodes.node) AS attempts "
            "FROM nodes LEFT JOIN attempts ON attempts.id = nodes.attempt WHERE nodes.run = ? "
            "ORDER BY nodes.rowid",
            run,
        )
        return [dict(row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        named = values[0] if len(values) == 1 and isinstance(values[0], dict) else values
        return self._db.execute(query, named).fetchall()

    def _one(self, query: str, *values: Any) -> sqlite3.Row:
        rows = self._rows(query, *values)
        if not rows:
            raise FlowError(f"the ledger has no entry for {values}")
        return rows[0]

    def _move_node(self, run: int, node: str, state: State, **fields: Any) -> None:
        self._move("nodes", "run = ? AND node = ?", (run, node), state, **fields)

    def _move(
        self, table: str, where: str, values: tuple[Any, ...], state: State, **fields: Any
    ) -> None:
        row = self._one(f"SELECT state FROM {table} WHERE {where}", *values)
        before = State(row["state"])
        if state not in _NEXT.get(before, frozenset()):
            raise FlowError(f"{table} {values} cannot go from {before.value} to {state.value}")
        names = ", ".join(["state = ?", *(f"{name} = ?" for name in fields)])
        self._db.execute(
            f"UPDATE {table} SET {names} WHERE {where}", (state.value, *fields.values(), *values)
        )


def _number(row_id: int | None) -> int:
    assert row_id is not None  # SQLite gives one to each inserted row
    return row_id
