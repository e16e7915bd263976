"""Conversion of a flow's texts to the types that a function's annotations ask for."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from weiml.config import nearest

__all__ = ["annotation_of", "convert", "type_name"]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def annotation_of(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation, evaluated if it is text; str when there is none.

    One parameter at a time, so that names imported only for type checking do no harm elsewhere.
    """
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return str
    if not isinstance(annotation, str):
        return annotation
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return eval(annotation, {**vars(typing), **names})  # the text is the program's own source


def type_name(hint: Any) -> str:
    """Say what a parameter of this type looks like, for error messages."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def convert(values: tuple[str, ...], hint: Any) -> Any:
    """Convert the texts of one parameter to `hint`.

    Known: str, int, float, bool, Path, Literal, Enum (by value), ``X | None`` (the text ``none``)
    and ``tuple[X, ...]``: either several texts, or one with commas.

    Raises:
        ValueError: a text does not fit; the message says what would.
        TypeError: the annotation is none of these.
    """
    origin = get_origin(hint)
    if origin in (tuple, list):
        inner = get_args(hint)[0] if get_args(hint) else str
        parts = values[0].split(",") if len(values) == 1 else values
        items = [convert((part.strip(),), inner) for part in parts if part.strip()]
        return origin(items)
    if len(values) != 1:
        raise ValueError(f"must be given once, got {len(values)} values {values}")
    text = values[0]
    if origin in (Union, types.UnionType):
        return _convert_union(text, get_args(hint))
    if origin is Literal:
        return _convert_choice(text, {str(choice): choice for choice in get_args(hint)})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _convert_choice(text, {str(member.value): member for member in hint})
    return _convert_scalar(text, hint)


def _convert_union(text: str, choices: tuple[Any, ...]) -> Any:
    if type(None) in choices and text.strip().lower() in ("none", ""):
        return None
    failure = ValueError(f"got {text!r}")
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return convert((text,), choice)
        except ValueError as error:
            failure = error
    raise failure


def _convert_choice(text: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(
            f"must be one of {', '.join(choices)}, got {text!r}{nearest(text, choices)}"
        )
    return choices[text]


def _convert_scalar(text: str, hint: Any) -> Any:
    if hint is str or hint is Any:
        return text
    if hint is Path:
        return Path(text)
    if hint is bool:
        word = text.strip().lower()
        if word not in _TRUE + _FALSE:
            raise ValueError(f"must be true or false, got {text!r}")
        return word in _TRUE
    if hint in (int, float):
        try:
            return hint(text.strip().replace("_", ""))
        except ValueError:
            kind = "a whole number" if hint is int else "a number"
            raise ValueError(f"must be {kind}, got {text!r}") from None
    raise TypeError(f"a flow cannot give a parameter of type {type_name(hint)}")
