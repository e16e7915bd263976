"""Files are whole or not there, whatever goes wrong on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from weiml.data.quality import TableStatistics
from weiml.features import Continuous, FeatureEncoder, FeatureSpec, KeyNames
from weiml.features.transforms import MinMax
from weiml.files import written_aside


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), written_aside(path) as aside:
        aside.write_text("ne\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    with written_aside(str(path)) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
        assert aside.parent == tmp_path
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


TABLE = pa.table({"x": [1.0, 2.0]})


@pytest.mark.parametrize(
    "written",
    [
        FeatureEncoder(FeatureSpec(features=(Continuous("x"),))).fit(TABLE),
        MinMax("x").fit(TABLE),
        KeyNames(),
        TableStatistics(),
    ],
    ids=lambda written: type(written).__name__,
)
def test_a_failed_save_leaves_nothing(written: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").touch()
    with pytest.raises(OSError, match="folder"):
        written.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_an_encoder_of_numbers_that_json_lacks_is_not_written(tmp_path: Path) -> None:
    encoder = FeatureEncoder(FeatureSpec(features=(Continuous("x", buckets=2),))).fit(TABLE)
    scale = encoder._scales["x"]  # type: ignore[index]
    object.__setattr__(scale, "mean", np.nan)
    with pytest.raises(ValueError, match="JSON"):
        encoder.save(tmp_path / "encoder.json")
    assert not list(tmp_path.iterdir())
