"""The wire's configuration: exact by default, and refused where it cannot mean anything."""

from __future__ import annotations

from typing import Any

import pytest

from weiml.errors import ConfigError
from weiml.ps.wire import WireConfig


def test_nothing_is_rounded_kept_back_or_recoded_by_default() -> None:
    config = WireConfig()
    assert not config.compresses
    assert not config.codes_keys
    assert config.pull_codec("state") == config.push_codec("gradients") == "float32"


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"pull": "float64"}, "pull must be one of .*float64"),
        ({"push": "fp16"}, "push must be one of .*fp16"),
        ({"keys": "zip"}, "keys must be one of plain, packed; got 'zip'"),
        ({"push_fraction": 0.0}, "push_fraction must be above 0"),
        ({"push_fraction": 1.5}, "push_fraction must be above 0 and at most 1, got 1.5"),
        ({"push_fraction": 0.5, "feedback_rows": 0}, "feedback_rows above 0"),
        ({"feedback_rows": -1}, "feedback_rows must be 0 or more"),
        ({"dictionary_keys": 0}, "dictionary_keys"),
        ({"dictionary_keys": 2**31}, "dictionary_keys"),
        ({"key_cache_mib": -1.0}, "key_cache_mib must be 0 or more"),
        ({"key_cache_mib": float("nan")}, "key_cache_mib must be 0 or more"),
        ({"max_outstanding": 0}, "max_outstanding must be 1 or more, got 0"),
    ],
)
def test_a_knob_that_makes_no_sense_is_named(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WireConfig(**knobs)


def test_state_is_never_sent_with_one_scale_for_all_its_quantities() -> None:
    config = WireConfig(pull="int8", push="int8")
    assert config.pull_codec("weights") == config.push_codec("gradients") == "int8"
    assert config.pull_codec("state") == "bfloat16"
    assert config.push_codec("differences") == config.push_codec("squares") == "float8"
