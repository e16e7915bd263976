from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data.datasets.open_bandit import CAMPAIGNS, POLICIES, build_open_bandit, read_open_bandit
from weiml.data.datasets.registry import DATASETS, Workshop, fetch
from weiml.errors import DataError, FetchError

AFFINITIES = ",user-item_affinity_0,user-item_affinity_1"
HEAD = (
    ",timestamp,item_id,position,click,propensity_score,"
    "user_feature_0,user_feature_1,user_feature_2,user_feature_3" + AFFINITIES
)
LOG = f"""{HEAD}
0,2019-11-24 00:00:18.5+00:00,1,2,0,0.25,u,v,w,x,0.0,1.5
1,2019-11-24 00:00:17.004101+00:00,0,1,1,0.125,u,v,w,y,2.0,0.0
"""
ITEMS = """,item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3
0,1,-0.5,a,b,c
1,0,0.5,a,b,d
"""


def write_wheel(path: Path, log: str = LOG, items: str = ITEMS) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for policy in POLICIES:
            for campaign in CAMPAIGNS:
                folder = f"obp/dataset/obd/{policy}/{campaign}"
                wheel.writestr(f"{folder}/{campaign}.csv", log)
                wheel.writestr(f"{folder}/item_context.csv", items)
    return path


def test_the_canonical_form(tmp_path: Path) -> None:
    tables = read_open_bandit(write_wheel(tmp_path / "w.whl"))
    impressions, items = tables["impressions"], tables["items"]
    assert (impressions.num_rows, items.num_rows) == (12, 12)
    assert impressions.schema.field("affinities").type == pa.list_(pa.float32())
    first = impressions.to_pylist()[0]
    assert first["timestamp"].isoformat() == "2019-11-24T00:00:17.004101+00:00"
    del first["timestamp"]
    assert first == {
        "policy": "bts",
        "campaign": "all",
        "item_id": 0,
        "position": 1,
        "click": 1,
        "propensity": 0.125,
        "user_feature_0": "u",
        "user_feature_1": "v",
        "user_feature_2": "w",
        "user_feature_3": "y",
        "affinities": [2.0, 0.0],
    }
    assert items["item_id"].to_pylist() == [0, 1] * 6
    assert impressions["policy"].to_pylist() == ["bts"] * 6 + ["random"] * 6


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (LOG.replace("0.25", "x"), "all.csv"),
        (LOG.replace("propensity_score", "chance"), "has no columns"),
        (LOG.replace("affinity_0", "affinity_7"), "not complete"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, log: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_open_bandit(write_wheel(tmp_path / "w.whl", log))


def test_a_damaged_wheel_is_not_read(tmp_path: Path) -> None:
    write_wheel(tmp_path / "obp-0.4.1-py3-none-any.whl")
    with pytest.raises(FetchError, match="open-bandit could not be fetched: .*SHA-256"):
        build_open_bandit(Workshop(scratch=tmp_path / "scratch", by_hand=tmp_path))


def test_it_is_registered_with_licence_and_home() -> None:
    assert DATASETS["open-bandit"].licence.startswith("CC BY 4.0")
    assert DATASETS["open-bandit"].tables == ("impressions", "items")


@pytest.mark.slow
def test_the_real_one(tmp_path: Path) -> None:
    folder = fetch("open-bandit", tmp_path)
    impressions = pq.read_table(folder / "impressions.parquet")
    assert impressions.num_rows == 60_000
    assert 0.004 < np.mean(impressions["click"]) < 0.007
    by = impressions.group_by(["policy", "campaign"]).aggregate([("click", "count")])
    assert set(by["click_count"].to_pylist()) == {10_000}
    assert pq.read_table(folder / "items.parquet").num_rows == 2 * (80 + 34 + 46)
    assert fetch("open-bandit", tmp_path) == folder
