from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest

from weiml.data.sampling.counts import RowCounts, keep_rows, labels_of
from weiml.errors import DataError


def test_rows_are_counted_by_reason_and_parts_add_up() -> None:
    table = pa.table({"x": [1, 2, 3]})
    one, other = RowCounts(), RowCounts()
    kept = keep_rows(table, np.array([True, False, False]), "odd", one)
    keep_rows(kept, np.array([False]), "even", other)
    one.add(other)
    assert kept["x"].to_pylist() == [1]
    assert (one.seen, dict(one.removed), one.kept) == (4, {"odd": 2, "even": 1}, 1)


def test_what_is_not_counted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "weiml.data.sampling"):
        keep_rows(pa.table({"x": [1, 2]}), np.array([True, False]), "odd", None)
    assert "1 of 2 rows removed: odd" in caplog.text


def test_labels() -> None:
    for labels in ([0, 1, 1], [0.0, 1.0, 1.0], [False, True, True]):
        assert labels_of(pa.table({"y": labels}), "y").tolist() == [False, True, True]
    for wrong in ([0, 2], [0, None], [True, None], ["0", "1"], [0.5], [2**53 + 1]):
        with pytest.raises(DataError, match="must be 0 or 1, got"):
            labels_of(pa.table({"y": wrong}), "y")
    with pytest.raises(DataError, match="no label column 'z'"):
        labels_of(pa.table({"y": [1]}), "z")
