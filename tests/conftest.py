"""Fixtures for the whole suite: one Ray session, and seeds that do not wander."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Compilation makes first calls slow and CI machines are shared: no deadline per example.
settings.register_profile("weiml", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("weiml")

os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(7)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for the suite: two logical cores, loopback only."""
    import ray

    from weiml.cluster import start_ray

    start_ray(num_cpus=2, object_store_bytes=512 * 1024**2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's folder."""
    return Path(__file__).resolve().parent.parent
