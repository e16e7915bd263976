"""Cuts: their order, their JSON form, and what is refused as one."""

from __future__ import annotations

import pytest

from weiml.errors import DataError
from weiml.ps import Cut


def test_a_cut_survives_json_and_shows_its_total() -> None:
    cut = Cut((3, 0, 12))
    assert Cut.from_json(cut.to_json()) == cut
    assert cut.total == 15
    assert str(cut) == "15"
    assert Cut.from_json(Cut.zero().to_json()) == Cut.zero()
    assert Cut.zero().total == 0


@pytest.mark.parametrize("text", ["", "{}", "7", '["1"]', "[1.5]", "[-1]", "[true]", "[1,"])
def test_anything_else_is_no_cut(text: str) -> None:
    with pytest.raises(DataError, match="a cut is a JSON list"):
        Cut.from_json(text)
