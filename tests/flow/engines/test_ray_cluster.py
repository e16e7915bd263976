"""Ray as the flow's own process would start and find it, in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.flow.conftest import Program

pytestmark = pytest.mark.process

STEPS = """
import os, pathlib, time
from weiml.flow import step

def double(x):
    return 2 * x

@step("r.tasks")
def tasks(context):
    import ray
    node = ray._private.worker._global_node
    pids = [info.process.pid for group in node.all_processes.values() for info in group]
    pathlib.Path("pids").write_text(" ".join(map(str, pids)))
    context.report("address", ray.get_runtime_context().gcs_address)
    import psutil
    listening = {
        link.laddr.ip.removeprefix("::ffff:")
        for process in [psutil.Process(), *map(psutil.Process, pids)]
        for link in process.net_connections("tcp")
        if link.status == "LISTEN"
    }
    context.report("listening", sorted(listening))
    remote = ray.remote(double)
    context.report("values", ray.get([remote.remote(i) for i in range(3)]))

@step("r.wait")
def wait(context):
    import ray

    @ray.remote
    def sleep():
        time.sleep(300)

    ref = sleep.remote()
    pathlib.Path("waiting").touch()
    ray.get(ref)
"""

FLOW = """<flow name="f" steps="far.mysteps">
<node id="a" engine="ray_data"><process name="s" class="r.tasks"/></node>
<node id="b" engine="ray_data" preid="a" {limit}><process name="s" class="{last}"/></node>
</flow>"""

MAIN = """
import sys
sys.path.append("hidden")  # where Ray's workers do not look
from weiml.flow import run_flow
result = run_flow("flow.xml", "runs", progress="plain")
import ray
a, b = result.reports["a"], result.reports["b"]
print(b["values"], a["listening"], a["address"] == b["address"], ray.is_initialized())
"""


def prepare(program: Program, last: str, limit: str = "") -> None:
    (program.folder / "hidden" / "far").mkdir(parents=True)
    program.write("hidden/far/mysteps.py", STEPS)
    program.write("main.py", MAIN)
    program.write("flow.xml", FLOW.format(last=last, limit=limit))


def assert_ray_is_gone(program: Program) -> None:
    pids = (program.folder / "pids").read_text().split()
    assert pids
    for pid in map(int, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_local_ray_serves_the_run_and_ends_with_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    prepare(program, "r.tasks")
    status, out, err = program.run("main.py")
    assert status == 0, err
    assert out == "[0, 2, 4] ['127.0.0.1'] True False\n"
    assert_ray_is_gone(program)


@pytest.mark.slow
def test_terminated_while_ray_works_nothing_stays(
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[[Callable[[], bool], str], None],
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    prepare(program, "r.wait")
    process = program.start("main.py")
    until((program.folder / "waiting").exists, "the step waits for Ray")
    process.send_signal(signal.SIGTERM)  # Ray puts a handler of its own in its place
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "b: cancelled" in err
    assert_ray_is_gone(program)


@pytest.mark.slow
def test_waiting_for_ray_is_cut_off_at_the_limit(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    prepare(program, "r.wait", limit='timeout_s="3"')
    status, _, err = program.run("main.py")
    assert status == 1
    assert "node 'b' took longer than timeout_s=3" in err
    assert_ray_is_gone(program)
