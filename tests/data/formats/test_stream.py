from __future__ import annotations

import io

import pyarrow as pa
import pytest

from weiml.data.formats import Csv
from weiml.data.formats.base import ROWS_PER_BLOCK, BadRow
from weiml.data.formats.stream import BadRows, bisect_rows, sliced
from weiml.errors import ConfigError, DataError


def test_each_bad_row_is_found_and_the_others_keep_their_order() -> None:
    wrong = {0, 1, 7, 63, 99}
    failed: list[int] = []

    def parse(start: int, stop: int) -> pa.Table:
        if wrong & set(range(start, stop)):
            raise pa.ArrowInvalid("no")
        return pa.table({"x": list(range(start, stop))})

    tables = list(bisect_rows(parse, 100, lambda row, _: failed.append(row)))
    assert failed == sorted(wrong)
    values = pa.concat_tables(tables)["x"].to_pylist()
    assert values == [x for x in range(100) if x not in wrong]
    assert list(bisect_rows(parse, 0, lambda *_: None)) == []


def test_blocks_are_bounded() -> None:
    table = pa.table({"x": pa.nulls(ROWS_PER_BLOCK + 5)})
    assert [len(part) for part in sliced(table)] == [ROWS_PER_BLOCK, 5]
    assert list(sliced(table.slice(0, 0))) == []


def test_bad_rows_are_told_cut_off_or_end_the_reading() -> None:
    seen: list[BadRow] = []
    BadRows(seen.append).add("line 3", "odd", b"x" * 10_000)
    assert (seen[0].place, seen[0].reason, len(seen[0].raw)) == ("line 3", "odd", 4096)
    with pytest.raises(DataError, match="line 3: odd"):
        BadRows(None).add("line 3", "odd", b"")


def test_a_stream_is_one_piece_and_its_compression_is_checked() -> None:
    with pytest.raises(ConfigError, match="piece=2"):
        list(Csv().read(io.BytesIO(b"a\n1\n"), piece=2))
    assert len(list(Csv().read(io.BytesIO(b"a\n1\n"), piece=0))) == 1
    with pytest.raises(ConfigError, match="did you mean 'gzip'"):
        Csv(compression="gzi")  # type: ignore[arg-type]
