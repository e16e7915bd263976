"""Fields are the slots' embeddings, then the dense columns' vectors; two are needed at least."""

from __future__ import annotations

import pytest
import torch

from weiml.errors import ConfigError
from weiml.models import Columns, build_model
from weiml.models.deep.fields import pairs


def test_pairs_are_all_pairs_in_order() -> None:
    left, right = pairs(5)
    expected = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", ["autoint", "deepfm", "fibinet", "pnn", "xdeepfm"])
def test_one_field_is_refused_and_dense_columns_can_be_fields(name: str) -> None:
    columns = Columns(slots=("user",), dense_names=("age",))
    with pytest.raises(ConfigError, match="at least two fields"):
        build_model(name, {"name": name}, columns)
    model = build_model(name, {"name": name, "dense_fields": True}, columns)
    assert model.dense_tensors()["fields.dense"].shape == (1, 16)
    scale = torch.tensor(model.dense_tensors()["fields.dense"]).abs().max()
    assert 0 < scale < 0.06
