"""Joining and starting Ray: what answers, what doesn't, and who stops it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from weiml.cluster import ensure_ray, join_ray, ray_running
from weiml.errors import ClusterError


def test_a_ray_that_runs_is_used_and_left_running(ray_session: None) -> None:
    import ray

    assert ensure_ray() is False
    with ray_running():
        assert ray.is_initialized()
    assert ray.is_initialized()


def test_an_address_where_nothing_answers_is_named_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound, but nobody listens
        with pytest.raises(ClusterError, match=f"no Ray cluster at '{address}'.*ray start --head"):
            join_ray(address)


def test_the_suite_left_the_signal_handlers_and_the_environment_alone(ray_session: None) -> None:
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


STARTS = """
import os, signal, threading, time
from weiml.cluster import start_ray
from weiml.serving.processes import descendants

def strike():
    while len(descendants(os.getpid())) < 2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=strike, daemon=True).start()
start_ray(num_cpus=1)
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_program_that_is_ended_while_its_ray_starts_leaves_nothing_of_it(root: Path) -> None:
    mark = uuid.uuid4().hex
    environment = os.environ | {"WEIML_TEST_MARK": mark}
    done = subprocess.run([sys.executable, "-c", STARTS], cwd=root, env=environment, timeout=120)
    assert done.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 20
    while left := marked(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def marked(mark: str) -> set[str]:
    """Return the processes whose environment holds `mark`."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours
            if mark.encode() in (entry / "environ").read_bytes():
                found.add(entry.name)
    return found
