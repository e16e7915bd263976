"""Joining and starting Ray: what answers, what doesn't, and who stops it."""

from __future__ import annotations

import os
import signal
import socket

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
