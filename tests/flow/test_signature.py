from __future__ import annotations

import enum
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from weiml.flow.signature import annotation_of, convert

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("texts", "hint", "value"),
    [
        (("3",), int, 3),
        (("1_000",), int, 1000),
        (("1e-3",), float, 0.001),
        (("Yes",), bool, True),
        (("off",), bool, False),
        (("a, b",), str, "a, b"),
        (("a/b",), Path, Path("a/b")),
        (("none",), int | None, None),
        (("4",), int | None, 4),
        (("a, b",), tuple[str, ...], ("a", "b")),
        (("a,b", "c"), tuple[str, ...], ("a,b", "c")),
        (("1,2",), tuple[int, ...], (1, 2)),
        (("",), tuple[int, ...], ()),
        (("lr",), Literal["lr", "wide_deep"], "lr"),
        (("2",), Literal[1, 2], 2),
        (("red",), Colour, Colour.RED),
    ],
)
def test_texts_become_what_the_annotation_asks(
    texts: tuple[str, ...], hint: Any, value: object
) -> None:
    assert convert(texts, hint) == value


@pytest.mark.parametrize(
    ("texts", "hint", "message"),
    [
        (("four",), int, "must be a whole number, got 'four'"),
        (("1.5",), int, "must be a whole number, got '1.5'"),
        (("x",), float, "must be a number"),
        (("maybe",), bool, "must be true or false"),
        (("a", "b"), str, "must be given once"),
        (("lrr",), Literal["lr", "wide_deep"], "did you mean 'lr'"),
        (("x",), int | None, "must be a whole number"),
        (("1,x",), tuple[int, ...], "must be a whole number, got 'x'"),
    ],
)
def test_texts_that_do_not_fit_say_what_would(
    texts: tuple[str, ...], hint: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convert(texts, hint)


def test_types_that_a_flow_cannot_give_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot give"):
        convert(("x",), dict)


def test_only_the_annotation_asked_for_is_evaluated() -> None:
    def function(context: Missing, size: int, plain) -> None:  # type: ignore[no-untyped-def]
        """Annotations are texts here; one names what is imported for type checking only."""

    parameters = inspect.signature(function).parameters
    assert annotation_of(function, parameters["size"]) is int
    assert annotation_of(function, parameters["plain"]) is str
