from __future__ import annotations

import csv
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats.csv_records import RecordBlock, record_blocks

FIELDS = st.text(st.sampled_from('ab,"\n'), max_size=5)


@given(
    rows=st.lists(st.lists(FIELDS, min_size=2, max_size=3), min_size=1, max_size=6),
    size=st.integers(1, 40),
)
def test_records_end_where_the_standard_library_ends_them(rows: list[list[str]], size: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    data = text.getvalue().encode()
    records: list[bytes] = []
    lines: list[int] = []
    for block in record_blocks(io.BytesIO(data), ",", '"', True, size):
        records += [bytes(block.bytes_of(i, i + 1)) for i in range(block.size)]
        lines += block.lines.tolist()
    assert [next(csv.reader(io.StringIO(r.decode(), newline=""))) for r in records] == rows
    starts = np.cumsum([0, *(record.count(b"\n") for record in records[:-1])]) + 1
    assert lines == starts.tolist()


def test_blank_lines_are_no_records_unless_there_is_one_column() -> None:
    (block,) = record_blocks(io.BytesIO(b"a\n\nb\r\n\r\n"), ",", '"', True)
    assert isinstance(block, RecordBlock)
    assert block.of(("x",)).size == 4
    two = block.of(("x", "y"))
    assert (two.size, two.lines.tolist(), two.raw(1)) == (2, [1, 3], b"b")
