"""Knobs of a worker group are checked."""

from __future__ import annotations

from typing import Any

import pytest

from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.group import WorkerGroupConfig


def test_sizes_default_to_a_fixed_one() -> None:
    config = WorkerGroupConfig(num_workers=3)
    assert (config.fewest, config.most, config.is_elastic) == (3, 3, False)
    elastic = WorkerGroupConfig(num_workers=3, min_workers=2, max_workers=5)
    assert (elastic.fewest, elastic.most, elastic.is_elastic) == (2, 5, True)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"num_workers": 2, "min_workers": 3}, "must ascend from 1, got 3, 2, 2"),
        ({"num_workers": 2, "max_workers": 1}, "must ascend from 1, got 2, 2, 1"),
        ({"backend": "ncc"}, "did you mean 'nccl'"),
        ({"reduction": "rink"}, "did you mean 'ring'"),
        ({"compression": "float8"}, "compression must be one of"),
        ({"placement": "STRICT"}, "did you mean 'STRICT_PACK'"),
        ({"collective_timeout_s": 0.0}, "collective_timeout_s must be above 0"),
        ({"start_timeout_s": float("nan")}, "start_timeout_s must be above 0"),
        ({"max_restarts": -1}, "max_restarts must be at least 0"),
        ({"bucket_bytes": 10}, "bucket_bytes must be at least 1024"),
        ({"cpus_per_worker": -1.0}, "cpus_per_worker must be at least 0"),
        ({"threads_per_worker": 0}, "threads_per_worker must be at least 1"),
        ({"interface": ""}, "interface must be loopback, auto or a name"),
        ({"gpus_per_worker": 1.5}, "gpus_per_worker above 1 must be whole"),
        ({"gpus_per_worker": "all"}, "gpus_per_worker must be one of"),
        ({"backend": "nccl"}, "needs a GPU of its own"),
        ({"backend": "nccl", "gpus_per_worker": 0.5}, "needs a GPU of its own"),
    ],
)
def test_what_does_not_fit_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorkerGroupConfig(**knobs)


def test_it_is_read_from_a_mapping() -> None:
    given = {"num_workers": 4, "gpus_per_worker": "auto", "interface": "auto", "min_workers": 2}
    config = from_mapping(WorkerGroupConfig, given)
    assert (config.gpus_per_worker, config.interface, config.fewest) == ("auto", "auto", 2)
    assert from_mapping(WorkerGroupConfig, {"gpus_per_worker": 1}).gpus_per_worker == 1.0
    with pytest.raises(ConfigError, match="unknown key 'workers'; did you mean 'num_workers'"):
        from_mapping(WorkerGroupConfig, {"workers": 4})
