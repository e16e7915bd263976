from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.config import from_mapping
from weiml.data.sampling import KindWeights, weigh
from weiml.errors import ConfigError, DataError

TABLE = pa.table({"kind": ["click", "purchase", None, "view"]})


def test_each_kind_has_its_weight() -> None:
    tree = {"kind": "kind", "weights": {"click": 2, "purchase": 10.0}, "default": 0.5}
    weighed = weigh(TABLE, from_mapping(KindWeights, tree))
    assert weighed["weight"].to_pylist() == [2.0, 10.0, 0.5, 0.5]
    assert weighed.schema.field("weight").type == pa.float32()
    twice = weigh(weighed, KindWeights(kind="kind", default=2.0))
    assert twice["weight"].to_pylist() == [4.0, 20.0, 1.0, 1.0]


def test_a_kind_without_a_weight_is_told() -> None:
    with pytest.raises(DataError, match="kind 'purchase' of column 'kind' has no weight"):
        weigh(TABLE.slice(1, 1), KindWeights(kind="kind", weights={"click": 1.0}))
    with pytest.raises(ConfigError, match="not negative"):
        KindWeights(kind="kind", weights={"click": -1.0})
