"""Open Bandit: real impressions and clicks of a fashion shop, with the chance of each being shown.

The small edition: 10,000 impressions of each of two policies (uniformly at random, and Bernoulli
Thompson sampling) in each of three campaigns, a week of November 2019. One impression is one item
at one of three positions; `propensity` is the policy's chance of showing it there, which makes the
log fit for off-policy evaluation.
Y. Saito et al., "Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy
Evaluation", NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from weiml.data.datasets.registry import Dataset, Workshop, register_dataset
from weiml.data.datasets.wheels import WheelSource, member_of, wheel_of
from weiml.errors import DataError

__all__ = ["CAMPAIGNS", "OPEN_BANDIT", "POLICIES", "build_open_bandit", "read_open_bandit"]

OPEN_BANDIT = WheelSource(
    requirement="obp==0.4.1",
    sha256="87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
)
POLICIES = ("bts", "random")
CAMPAIGNS = ("all", "men", "women")

_FOLDER = "obp/dataset/obd"
_AFFINITY = "user-item_affinity_"
_USER = tuple(f"user_feature_{i}" for i in range(4))
_PLAIN = {
    "timestamp": pa.timestamp("us", "UTC"),
    "item_id": pa.int32(),
    "position": pa.int8(),
    "click": pa.int8(),
    "propensity_score": pa.float64(),
    **dict.fromkeys(_USER, pa.string()),
}
_ITEM = {
    "item_id": pa.int32(),
    "item_feature_0": pa.float64(),
    **{f"item_feature_{i}": pa.string() for i in (1, 2, 3)},
}


def build_open_bandit(
    workshop: Workshop, source: WheelSource = OPEN_BANDIT
) -> Mapping[str, pa.Table]:
    """Return the tables impressions and items.

    Raises:
        FetchError: the wheel cannot be obtained; says what to do.
    """
    return read_open_bandit(wheel_of(source, workshop, "open-bandit"))


def read_open_bandit(path: Path) -> dict[str, pa.Table]:
    """Read the wheel's six logs and six lists of items.

    Impressions stand by policy, campaign and time. `affinities` is the user's affinity to each item
    of the campaign, in the order of their ids. Items' features are hashed anew for each policy and
    campaign: join by all three.

    Raises:
        DataError: a file is missing or does not have the expected form.
    """
    impressions, items = [], []
    with zipfile.ZipFile(path) as wheel:
        for policy in POLICIES:
            for campaign in CAMPAIGNS:
                folder = f"{_FOLDER}/{policy}/{campaign}"
                log = f"{folder}/{campaign}.csv"
                listed = f"{folder}/item_context.csv"
                impressions.append(_impressions(member_of(wheel, log), log, policy, campaign))
                items.append(_items(member_of(wheel, listed), listed, policy, campaign))
    return {"impressions": pa.concat_tables(impressions), "items": pa.concat_tables(items)}


def _impressions(data: bytes, name: str, policy: str, campaign: str) -> pa.Table:
    table = _csv(data, name, _PLAIN)
    affinities = [column for column in table.column_names if column.startswith(_AFFINITY)]
    if affinities != [f"{_AFFINITY}{i}" for i in range(len(affinities))] or not affinities:
        raise DataError(f"{name}: the columns {_AFFINITY}0, 1, … are not complete")
    matrix = np.stack([table[column].to_numpy() for column in affinities], axis=1)
    flat = pa.array(matrix.astype(np.float32).reshape(-1))
    offsets = pa.array(np.arange(table.num_rows + 1) * len(affinities), pa.int32())
    columns = {
        **_whose(policy, campaign, table.num_rows),
        **{column: table[column] for column in ("timestamp", "item_id", "position", "click")},
        "propensity": table["propensity_score"],
        **{column: table[column] for column in _USER},
        "affinities": pa.ListArray.from_arrays(offsets, flat),
    }
    by_time = [(column, "ascending") for column in ("timestamp", "position", "item_id")]
    return pa.table(columns).sort_by(by_time)


def _items(data: bytes, name: str, policy: str, campaign: str) -> pa.Table:
    table = _csv(data, name, _ITEM).select(list(_ITEM)).sort_by("item_id")
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table({**_whose(policy, campaign, table.num_rows), **columns})


def _whose(policy: str, campaign: str, rows: int) -> dict[str, pa.Array]:
    return {"policy": pa.array([policy] * rows), "campaign": pa.array([campaign] * rows)}


def _csv(data: bytes, name: str, types: dict[str, pa.DataType]) -> pa.Table:
    convert = pyarrow.csv.ConvertOptions(column_types=types)
    try:
        table = pyarrow.csv.read_csv(io.BytesIO(data), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DataError(f"{name}: {error}") from None
    lacking = [column for column in types if column not in table.column_names]
    if lacking:
        raise DataError(f"{name} has no columns {lacking}; it has {table.column_names}")
    return table.combine_chunks()


register_dataset(
    Dataset(
        name="open-bandit",
        description="60,000 impressions and clicks of a fashion shop, with propensities",
        licence="CC BY 4.0 (ZOZO, Inc.)",
        home="https://research.zozo.com/data.html",
        build=lambda _, workshop: build_open_bandit(workshop),
        tables=("impressions", "items"),
    )
)
