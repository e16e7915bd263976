from __future__ import annotations

import pyarrow as pa

from weiml.data.quality import SUMMARY_HEADS, statistics_of, summary_rows


def test_a_row_a_feature() -> None:
    table = pa.table(
        {"age": [0, 2, None, 4], "city": ["x", "y", "x", None], "tags": [["p"], [], ["p"], ["q"]]}
    )
    rows = {
        row[0]: dict(zip(SUMMARY_HEADS, row, strict=True))
        for row in summary_rows(statistics_of([table]))
    }
    assert set(rows) == {"age", "city", "tags", "tags.item"}
    assert rows["age"]["MISSING %"] == rows["age"]["ZERO %"] == "25.00"
    assert (rows["age"]["MIN"], rows["age"]["MEAN"], rows["age"]["MAX"]) == ("0", "2", "4")
    assert rows["city"]["MOST FREQUENT"] == "x (2)"
    assert rows["city"]["DISTINCT"] == "2"
    assert rows["tags"]["MAX"] == "len 1"


def test_estimates_are_marked() -> None:
    (row,) = summary_rows(statistics_of([pa.table({"id": list(map(str, range(10_000)))})]))
    assert row[SUMMARY_HEADS.index("DISTINCT")].startswith("~")
