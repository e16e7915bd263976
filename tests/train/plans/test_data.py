"""Parts: disjoint, complete, in time order, and thinned where they are learned from only."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.plans.conftest import FEATURES, clicks
from weiml.config import from_mapping
from weiml.errors import DataError
from weiml.features import FeatureSpec
from weiml.train.plans.config import PARTS, DataConfig
from weiml.train.plans.data import PlanData

SPEC = FeatureSpec.from_mapping(FEATURES)


def data_of(**fields: Any) -> PlanData:
    return PlanData(from_mapping(DataConfig, fields), SPEC)


def tables_of(data: PlanData) -> dict[str, pa.Table]:
    timed = data.is_split and data.config.split == "time"
    starts = data.starts() if timed else []
    return {part: data.examples(part, starts).to_table() for part in data.config.parts}


@pytest.mark.parametrize("kind", ["int64", "timestamp[us]"])
def test_a_split_by_time_is_in_order_and_loses_nothing(kind: str, tmp_path: Path) -> None:
    table = clicks(3_000)
    times = pa.array(table["timestamp"].to_numpy() // 500).cast(kind)
    table = table.set_column(4, "timestamp", times)
    rng = np.random.default_rng(3)
    pq.write_table(table.take(rng.permutation(3_000)), tmp_path / "x.parquet")
    parts = tables_of(data_of(files=str(tmp_path / "x.parquet")))
    assert list(parts) == list(PARTS)
    seen = [parts[part]["timestamp"].cast(pa.int64()).to_numpy() for part in PARTS]
    for earlier, later in pairwise(seen):
        assert earlier.max() < later.min()
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), times.cast(pa.int64()).sort())
    assert 2_000 < len(seen[0]) < 2_200
    assert (
        pa.concat_tables(parts.values())
        .sort_by("price")
        .equals(table.sort_by("price").combine_chunks())
    )


def test_a_split_by_hash_keeps_users_together(views: Path) -> None:
    shares = {"train": 0.6, "validation": 0.0, "calibration": 0.2, "test": 0.2}
    parts = tables_of(data_of(files=str(views), split="hash", shares=shares))
    assert list(parts) == ["train", "calibration", "test"]
    users = [set(part["user_id"].to_pylist()) for part in parts.values()]
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]
    assert sum(part.num_rows for part in parts.values()) == 20_000


def test_negatives_are_thinned_where_the_network_learns(views: Path) -> None:
    whole = tables_of(data_of(files=str(views)))
    thin = tables_of(data_of(files=str(views), keep_negatives=0.25))
    for part in PARTS:
        positives = int(np.sum(whole[part]["label"].to_numpy()))
        negatives = whole[part].num_rows - positives
        assert int(np.sum(thin[part]["label"].to_numpy())) == positives
        kept = (thin[part].num_rows - positives) / negatives
        if part in ("train", "validation"):
            assert kept == pytest.approx(0.25, abs=0.04)
        else:
            assert kept == 1


def test_parts_with_files_of_their_own_share_none(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "calibration", "test")):
        pq.write_table(clicks(100, seed), tmp_path / f"{part}.parquet")
    names = {part: str(tmp_path / f"{part}.parquet") for part in ("train", "calibration", "test")}
    parts = tables_of(data_of(**names))
    assert parts["calibration"].equals(clicks(100, 1))
    both = data_of(**names, validation=names["calibration"])
    assert both.identity("validation")["files"] == both.identity("calibration")["files"]
    with pytest.raises(DataError, match=r"data.calibration and data.test have 1 files in common"):
        data_of(**names | {"test": [names["test"], names["calibration"]]}).identity("test")
    (tmp_path / "copy.parquet").write_bytes((tmp_path / "train.parquet").read_bytes())
    with pytest.raises(DataError, match=r"data.train and data.test"):
        data_of(**names | {"test": str(tmp_path / "copy.parquet")}).identity("test")


def test_a_part_without_examples_is_named(tmp_path: Path) -> None:
    table = clicks(50).set_column(4, "timestamp", pa.array([7] * 50))
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="nothing is left for train"):
        data_of(files=str(tmp_path / "x.parquet")).starts()
    pq.write_table(clicks(0), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="0 examples cannot be split by time 'timestamp'"):
        data_of(files=str(tmp_path / "x.parquet")).starts()
