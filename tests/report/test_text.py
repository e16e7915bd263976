from __future__ import annotations

import pytest

from weiml.report.text import FILTERS, fixed, number, package_version, seconds, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0421, "42 ms"),
        (0.1, "0.1 s"),
        (99.4, "99.4 s"),
        (131.4, "2 min 11 s"),
        (7260, "2 h 1 min"),
        (None, "–"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_numbers() -> None:
    assert [number(v) for v in (100000, 3.0, 0.123456, "x", True)] == [
        *("100,000", "3", "0.1235", "x", "True")
    ]
    assert (fixed(0.5), fixed(None), fixed(0.123456, 5)) == ("0.5000", "–", "0.12346")
    assert (signed(0.01), signed(-0.01), signed(None)) == ("+0.0100", "−0.0100", "–")


def test_facts_and_people() -> None:
    assert FILTERS["fact"]({"train": 80000, "kept": True}) == "train 80,000, kept yes"
    assert FILTERS["fact"]((1, 2.5)) == "1, 2.5"
    assert FILTERS["who"]({"user_id": 7, "age": 30}) == "user 7"
    assert FILTERS["who"]({}) == "user"
    assert FILTERS["about"]({"user_id": 7, "age": 30, "items_before": 1200, "x": None}) == (
        "age 30 · items before 1,200"
    )
    seen = {"a": 1, "b": 9, "c": 3, "d": 2, "e": 5}
    assert FILTERS["seen"](seen) == "b 9, e 5, c 3, d 2"


def test_versions() -> None:
    assert package_version("numpy").count(".") == 2
    assert package_version("no-such-package-here") == "not installed"
