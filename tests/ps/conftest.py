"""Parameter servers for the tests: the same groups over both transports, shared to save starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import pytest

from weiml.ps import EmbeddedParameterServer, ParameterServer

Make: TypeAlias = Callable[..., ParameterServer]


@pytest.fixture(params=["embedded", "ray"], scope="module")
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def make(transport: str, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Return a function that gives a group of a shape, the same one for the same shape."""
    if transport == "ray":
        request.getfixturevalue("ray_session")
    groups: dict[tuple[int, int, int | None], ParameterServer] = {}

    def get(
        num_shards: int = 2, num_workers: int = 2, staleness: int | None = 0
    ) -> ParameterServer:
        shape = (num_shards, num_workers, staleness)
        if shape not in groups:
            groups[shape] = start(transport, *shape)
        return groups[shape]

    yield get
    for group in groups.values():
        group.close()


def start(
    transport: str, num_shards: int, num_workers: int, staleness: int | None
) -> ParameterServer:
    if transport == "embedded":
        return EmbeddedParameterServer(num_shards, num_workers, staleness)
    from weiml.ps import RayParameterServer

    name = f"test-{num_shards}-{num_workers}-{staleness}"
    return RayParameterServer.create(num_shards, num_workers, staleness, name, wait_timeout_s=20.0)


@pytest.fixture
def table(request: pytest.FixtureRequest) -> str:
    """Return a table name of the test's own, since groups are shared."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"t-{name}"


@pytest.fixture
def keys() -> np.ndarray:
    """Return five keys, the smallest and the largest among them."""
    return np.array([0, 1, 2**64 - 1, 77, 2**63], np.uint64)
