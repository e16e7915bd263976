from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weiml.errors import ConfigError
from weiml.search import AshaConfig, SearchConfig, build_objective
from weiml.search.objectives import Bowl


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"name": "a/b"}, "plain folder name"),
        ({"name": ""}, "plain folder name"),
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_config_refuses(tmp_path: Path, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**{"folder": tmp_path, "name": "s", **knobs})


def test_asha_refuses() -> None:
    with pytest.raises(ConfigError, match="grace_steps = 3"):
        AshaConfig(max_steps=2, grace_steps=3)
    with pytest.raises(ConfigError, match="reduction"):
        AshaConfig(max_steps=2, reduction=1)


@pytest.mark.parametrize(("trials", "startup"), [(1, 3), (8, 3), (18, 6), (100, 10)])
def test_a_short_search_models_too(tmp_path: Path, trials: int, startup: int) -> None:
    assert SearchConfig(folder=tmp_path, name="s", trials=trials).startup == startup


def test_objectives_by_name() -> None:
    assert build_objective("bowl", {"steps": 3}) == Bowl(steps=3)
    with pytest.raises(ConfigError, match="did you mean 'bowl'"):
        build_objective("bowls", {})
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        build_objective("bowl", {"stepps": 3})
