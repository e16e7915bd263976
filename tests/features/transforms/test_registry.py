"""Names, files and errors of the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import Clip, MinMax, load_fitted, register, transform_from_mapping


def test_a_transform_by_name() -> None:
    mapping = {"type": "clip", "column": "x", "low": 0}
    assert transform_from_mapping(mapping) == Clip("x", low=0.0)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"type": "clop", "column": "x"}, "did you mean 'clip'"),
        ({"column": "x"}, "unknown transform None"),
        ({"type": "clip", "column": "x", "lov": 0}, "did you mean 'low'"),
        ({"type": "clip", "low": 0}, "missing key 'column'"),
        ("clip", "must be a table"),
    ],
)
def test_wrong_configurations_are_told(mapping: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        transform_from_mapping(mapping, where="here")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ConfigError, match="registered already"):
        register("min_max")(MinMax)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_fitted(tmp_path / "none.json")
