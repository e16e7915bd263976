"""The knobs of a configuration dataclass: names, types, defaults, and the words below them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Knob", "knobs_of"]

_REQUIRED = "(required)"


class Knob(NamedTuple):
    """One that ``--set`` takes."""

    name: str
    """Dotted: ``optimizer.alpha``."""
    default: Any
    """In JSON's types; "(required)" if there is none."""
    doc: str


def knobs_of(config: type[Any], prefix: str = "") -> Iterator[Knob]:
    """Yield the knobs of a dataclass, those of dataclasses in it below the dot."""
    docs = _docs_of(config)
    for field in dataclasses.fields(config):
        if not field.init or (field.name == "name" and not prefix):
            continue
        default = _default(field)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            chosen = getattr(default, "name", type(default).__name__)
            yield Knob(name, chosen, docs.get(field.name, ""))
            yield from _knobs_in(default, f"{name}.")
        else:
            yield Knob(name, _plain(default), docs.get(field.name, ""))


def _knobs_in(value: Any, prefix: str) -> Iterator[Knob]:
    """Yield the knobs of a dataclass with the values that an object has."""
    for knob in knobs_of(type(value), prefix):
        own = knob.name.removeprefix(prefix)
        if own != "name":
            yield knob if "." in own else knob._replace(default=_told(getattr(value, own)))


def _told(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return getattr(value, "name", type(value).__name__)
    return _plain(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _REQUIRED


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _docs_of(config: type[Any]) -> dict[str, str]:
    """Return what stands below the fields of a class and of those it is made from."""
    docs: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            docs |= _docs_in(cls)
    return docs


def _docs_in(cls: type[Any]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):  # made at run time, or its source is gone
        return {}
    (defined,) = tree.body
    assert isinstance(defined, ast.ClassDef)
    docs = {}
    for field, below in zip(defined.body, defined.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            docs[field.target.id] = " ".join(str(below.value.value).split())  # type: ignore[attr-defined]
    return docs
