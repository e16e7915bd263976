"""Attempts in processes of their own: killed at each boundary, interrupted, too slow."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flow.conftest import Program

pytestmark = pytest.mark.process

STEPS = """
import os, pathlib, signal, sys, time
from weiml.flow import step
import weiml.flow.attempt, weiml.flow.manifest
from weiml.flow.ledger import Ledger

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, when):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if when == "before":
            die()
        original(*args, **kwargs)
        die()
    setattr(owner, name, wrapped)

POINT = os.environ.get("POINT")
if POINT == "before manifest":
    around(weiml.flow.manifest.Manifest, "write", "before")
if POINT == "after manifest":
    around(weiml.flow.manifest.Manifest, "write", "after")
if POINT == "before rename":
    around(weiml.flow.attempt.os, "rename", "before")
if POINT == "after rename":
    around(weiml.flow.attempt.os, "rename", "after")
if POINT == "after commit":
    around(Ledger, "commit", "after")

@step("t.write")
def write(context):
    (context.output_dir / "first.txt").write_text("whole")
    if POINT == "in step":
        die()
    (context.output_dir / "second.txt").write_text("whole")

@step("t.read")
def read(context, folder):
    assert (folder / "first.txt").read_text() == (folder / "second.txt").read_text()
    context.report("read", 1)

@step("t.wait")
def wait(context):
    pathlib.Path("pid").write_text(str(os.getpid()))
    pathlib.Path("waiting").touch()
    try:
        while True:
            try:
                time.sleep(0.05)
            except Exception:
                pathlib.Path("swallowed").touch()
    finally:
        pathlib.Path("unwound").touch()
"""

MAIN = """
import sys
from weiml.flow import run_flow
result = run_flow("flow.xml", "runs", progress="plain")
print(result.nodes["a"].state.value, result.reports["b"])
"""

FLOW = """<flow name="f" steps="mysteps">
<node id="a" engine="python"><output name="out" class="t.write"/></node>
<node id="b" engine="python" preid="a"><process name="r" class="t.read" dependency="a.out"/></node>
</flow>"""

WAITING = """<flow name="f" steps="mysteps">
<node id="a" engine="shell" {limit}>
  <process name="w" class="{cls}">{params}</process></node>
<node id="b" engine="python" preid="a"><process name="x" class="t.wait"/></node>
</flow>"""


def prepare(program: Program, flow: str) -> None:
    program.write("mysteps.py", STEPS)
    program.write("main.py", MAIN)
    program.write("flow.xml", flow)


def ledger_states(folder: Path, table: str) -> list[str]:
    with sqlite3.connect(folder / "runs" / "ledger.sqlite3") as db:
        return [row[0] for row in db.execute(f"SELECT state FROM {table} ORDER BY rowid")]


def visible(folder: Path) -> list[Path]:
    return sorted((folder / "runs" / "artifacts").glob("f/a/*"))


@pytest.mark.parametrize(
    "point",
    [
        "in step",
        "before manifest",
        "after manifest",
        "before rename",
        "after rename",
        "after commit",
    ],
)
def test_a_killed_run_leaves_all_or_nothing_and_the_next_completes(
    point: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(program, FLOW)
    monkeypatch.setenv("POINT", point)
    status, _, _ = program.run("main.py")
    assert status == -signal.SIGKILL
    published = point in ("after rename", "after commit")
    assert len(visible(program.folder)) == int(published)
    for folder in visible(program.folder):
        assert {p.name for p in (folder / "out").iterdir()} == {"first.txt", "second.txt"}
        assert json.loads((folder / "manifest.json").read_text())["node"] == "a"

    monkeypatch.delenv("POINT")
    status, out, err = program.run("main.py")
    assert status == 0, err
    expected = "cached" if published else "succeeded"
    assert out == f"{expected} {{'read': 1}}\n", err
    assert len(visible(program.folder)) == 1
    assert not list((program.folder / "runs" / "attempts").iterdir())
    assert ledger_states(program.folder, "runs") == ["lost", "succeeded"]
    first = "succeeded" if published else "lost"
    rest = ["succeeded"] if published else ["succeeded", "succeeded"]
    assert ledger_states(program.folder, "attempts") == [first, *rest]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_an_interrupted_run_is_cancelled_and_leaves_no_process(
    number: signal.Signals,
    status: int,
    program: Program,
    until: Callable[[Callable[[], bool], str], None],
) -> None:
    command = "<command>sh -c 'sleep 300 &amp; echo $! $$ > {here}; wait'</command>"
    here = program.folder / "pids"
    prepare(
        program,
        WAITING.format(limit="", cls="shell.run", params=command.replace("{here}", str(here))),
    )
    process = program.start("main.py")
    until(lambda: here.exists() and len(here.read_text().split()) == 2, "the program started")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    for pid in map(int, here.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert ledger_states(program.folder, "runs") == ["cancelled"]
    assert ledger_states(program.folder, "nodes") == ["cancelled", "skipped"]
    assert ledger_states(program.folder, "attempts") == ["cancelled"]
    assert not list((program.folder / "runs" / "attempts").iterdir())


def test_a_node_that_takes_too_long_fails_although_its_step_swallows_exceptions(
    program: Program,
) -> None:
    prepare(program, WAITING.format(limit='timeout_s="0.5"', cls="t.wait", params=""))
    status, _, err = program.run("main.py")
    assert status == 1
    assert "flow.xml:2: node 'a' took longer than timeout_s=0.5" in err
    assert "its step 'w' waits for" in err
    assert (program.folder / "unwound").exists()
    assert not (program.folder / "swallowed").exists()
    assert ledger_states(program.folder, "nodes") == ["failed", "skipped"]


def test_a_second_run_in_the_same_folder_is_refused(
    program: Program, until: Callable[[Callable[[], bool], str], None]
) -> None:
    prepare(program, WAITING.format(limit="", cls="t.wait", params=""))
    first = program.start("main.py")
    until((program.folder / "waiting").exists, "the first run waits")
    status, _, err = program.run("main.py")
    assert status == 1
    assert f"is in use by process {first.pid}, flow 'f'" in err
    assert first.poll() is None


def test_steps_of_the_running_program_are_registered_once(program: Program) -> None:
    (program.folder / "pipelines").mkdir()
    program.write(
        "pipelines/feed.py",
        "from weiml.flow import run_flow, step\n\n"
        "class Value: pass\n\n"
        "@step('f.make')\ndef make(context): return Value()\n\n"
        "@step('f.check')\ndef check(context, value):\n"
        "    context.report('same', isinstance(value, Value))\n\n"
        "if __name__ == '__main__':\n"
        "    r = run_flow('feed.xml', 'runs', progress='none')\n"
        "    print(r.reports, r.nodes['a'].state.value)\n",
    )
    program.write(
        "feed.xml",
        '<flow name="f" steps="pipelines.feed"><node id="a" engine="python">'
        '<input name="v" class="f.make"/><process name="c" class="f.check" dependency="v"/>'
        "</node></flow>",
    )
    by_name = "from weiml.flow import run_flow\nr = run_flow('feed.xml', 'runs', progress='none')\n"
    program.write("other.py", by_name + "print(r.reports, r.nodes['a'].state.value)\n")
    results = [
        program.run(*argv)
        for argv in (["-m", "pipelines.feed"], ["pipelines/feed.py"], ["other.py"])
    ]
    report = "{'a': {'same': True}}"
    assert [out for _, out, _ in results] == [f"{report} succeeded\n", *[f"{report} cached\n"] * 2]
