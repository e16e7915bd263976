"""How many workers fit where."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from weiml.errors import ClusterError
from weiml.group import WorkerGroup, WorkerGroupConfig
from weiml.group.placement import find_room, fitting, free_by_node, gpus_of, room_for

FREE = {"a": {"CPU": 4.0, "GPU": 1.0}, "b": {"CPU": 2.5}, "c": {"CPU": 0.5, "GPU": 8.0}}


@pytest.mark.parametrize(
    ("knobs", "number"),
    [
        ({}, 6),
        ({"placement": "SPREAD"}, 6),
        ({"placement": "STRICT_PACK"}, 4),
        ({"placement": "STRICT_SPREAD"}, 2),
        ({"cpus_per_worker": 0.5}, 14),
        ({"cpus_per_worker": 0.5, "gpus_per_worker": 1.0}, 2),
        ({"cpus_per_worker": 0.0, "gpus_per_worker": 0.5}, 18),
        ({"cpus_per_worker": 8.0}, 0),
    ],
)
def test_workers_that_fit_by_strategy(knobs: dict[str, Any], number: int) -> None:
    assert fitting(WorkerGroupConfig(**knobs), FREE) == number


@pytest.mark.parametrize(
    ("placement", "held", "number"),
    [
        ("PACK", [], 6),
        ("PACK", ["c", "c"], 8),
        ("STRICT_PACK", ["a"], 5),
        ("STRICT_PACK", ["b", "c"], 4),
        ("STRICT_SPREAD", ["c"], 3),
        ("PACK", ["a"] * 9, 10),  # no more than the most
    ],
)
def test_room_that_is_held_counts_on_its_own_node(
    placement: Any, held: list[str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {node: dict(resources) for node, resources in FREE.items()}
    monkeypatch.setattr("weiml.group.placement.free_by_node", lambda: copy.deepcopy(free))
    config = WorkerGroupConfig(num_workers=10, placement=placement)
    assert room_for(config, held=held, wait=False) == number


def test_a_gang_takes_its_room_and_gives_it_back(ray_session: None) -> None:
    config = WorkerGroupConfig(num_workers=2, cpus_per_worker=0.75, backend="none")
    before = fitting(config, free_by_node())
    with WorkerGroup.start(config) as group:
        assert [worker.rank for worker in group.workers] == [0, 1]
        assert group.backend == "none"
        assert fitting(config, free_by_node()) < before
    find_room(WorkerGroupConfig(num_workers=2, cpus_per_worker=0.75)).release()


def test_no_room_says_what_was_asked_and_what_there_is(ray_session: None) -> None:
    config = WorkerGroupConfig(num_workers=3, cpus_per_worker=1, start_timeout_s=0.3)
    with pytest.raises(ClusterError, match=r"3 workers with 1 CPU each.*has 2 CPU .* on 1 node\."):
        find_room(config)


def test_an_elastic_gang_is_as_large_as_there_is_room(ray_session: None) -> None:
    config = WorkerGroupConfig(
        num_workers=3, min_workers=1, cpus_per_worker=0.9, backend="none", start_timeout_s=20
    )
    with WorkerGroup.start(config) as group:
        assert group.num_workers == 2


def test_gpus_by_what_the_cluster_has(ray_session: None) -> None:
    assert gpus_of(WorkerGroupConfig(gpus_per_worker="auto")) == 0
    assert gpus_of(WorkerGroupConfig(gpus_per_worker=2.0)) == 2
    needs = WorkerGroupConfig(backend="nccl", gpus_per_worker=1.0, start_timeout_s=0.2)
    with pytest.raises(ClusterError, match="1 CPU, 1 GPU each.*0 GPU"):
        WorkerGroup.start(needs)
