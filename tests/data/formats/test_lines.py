from __future__ import annotations

import io

import pytest

from weiml.data.formats import lines
from weiml.data.formats.base import BadRow
from weiml.data.formats.lines import LineBlock, line_blocks, without_bad_text
from weiml.data.formats.stream import BadRows
from weiml.errors import DataError


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_blocks_are_whole_lines_and_know_their_numbers(size: int) -> None:
    text = b"\xef\xbb\xbfone\n\nthree\r\nfour"
    blocks = list(line_blocks(io.BytesIO(text), max(size, 3)))
    assert b"".join(block.data for block in blocks) == b"one\n\nthree\r\nfour\n"
    named = [
        (block.name(place), block.line(place))
        for block in blocks
        for place in range(len(block.starts) - 1)
    ]
    texts = [b"one", b"", b"three", b"four"]
    assert named == [(f"line {i}", text) for i, text in enumerate(texts, 1)]


def test_a_line_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 10)
    with pytest.raises(DataError, match="line 2 is longer than 10 bytes"):
        list(line_blocks(io.BytesIO(b"a\n" + b"x" * 50), 4))


def test_lines_that_are_no_text_are_emptied_and_told() -> None:
    seen: list[BadRow] = []
    block = without_bad_text(LineBlock(b"a\n\xff\xfe\nb\n", 5), BadRows(seen.append))
    assert block.data == b"a\n\nb\n"
    assert block.filled.tolist() == [0, 2]
    assert [bad.place for bad in seen] == ["line 6"]
    assert "not UTF-8 at byte 1" in seen[0].reason
