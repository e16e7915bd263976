"""Configuration of endpoints: from TOML, checked, loopback only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weiml.config import from_mapping, load_config, to_mapping
from weiml.errors import ConfigError
from weiml.serving import ScalingConfig, ServingConfig


def test_the_shipped_configuration_loads(root: Path) -> None:
    for file in sorted((root / "configs" / "serving").glob("*.toml")):
        config = load_config(ServingConfig, file, ['models.feed="runs/model"'])
        assert config.host == "127.0.0.1"
        assert config.max_queued_requests >= 1
        assert from_mapping(ServingConfig, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "models must name at least one model"),
        ({"models": {"a/b": "x"}}, "names without '/' or '.' to folders, got 'a/b'"),
        ({"models": {"a": {"b": "x"}}}, "names without '/' or '.' to folders, got 'a'"),
        ({"host": "0.0.0.0"}, "host must be loopback"),
        ({"port": 0}, "port must lie in 1 … 65535, got 0"),
        ({"max_queued_requests": -1}, "max_queued_requests must be at least 1, got -1"),
        ({"num_cpus": 0.0}, "num_cpus must be above 0"),
        ({"prot": 1}, "unknown key 'prot'; did you mean 'port'"),
        ({"scaling": {"min_replicas": 3}}, "min_replicas must lie between 1 and"),
        ({"scaling": {"target_ongoing_requests": 0}}, "target_ongoing_requests must be above 0"),
        ({"scaling": {"upscale_delay_s": -1}}, "upscale_delay_s must be 0 or more"),
        ({"scaling": {"look_back_period_s": 0}}, "look_back_period_s must be above 0"),
    ],
)
def test_mistakes_name_the_knob(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_mapping(ServingConfig, {"models": {"feed": "x"}} | changes)
    assert message in str(error.value)


def test_url_and_hub_follow_the_configuration() -> None:
    config = ServingConfig(models={"a": "x"}, host="::1", port=81, app="shop")
    assert (config.url, config.hub_name) == ("http://[::1]:81", "shop-hub")
    assert ScalingConfig().min_replicas == 1
