from __future__ import annotations

from typing import Any

import pytest

from weiml.data.durations import milliseconds, window_name, window_seconds
from weiml.errors import ConfigError


def test_lengths_are_read_in_every_unit() -> None:
    lengths = {"5ms": 5, "90s": 90_000, "15m": 900_000, "1h": 3_600_000, "7d": 604_800_000}
    assert {text: milliseconds(text, "x") for text in lengths} == lengths


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1s", "1w", " 1s", 3, None])
def test_what_is_no_length_is_told_with_its_knob(text: Any) -> None:
    with pytest.raises(ConfigError, match="lateness must be a whole number"):
        milliseconds(text, "lateness")


def test_too_short_ones_are_told() -> None:
    with pytest.raises(ConfigError, match="size must be at least 1 ms"):
        milliseconds("0s", "size")
    assert milliseconds("0s", "size", least=0) == 0


def test_windows_are_seconds_or_everything() -> None:
    assert [window_seconds(w) for w in ("1h", 90, None)] == [3600, 90, None]
    assert [window_name(w) for w in ("1h", 90, None)] == ["1h", "90s", "all"]
    with pytest.raises(ConfigError, match="whole seconds"):
        window_seconds("1500ms")
