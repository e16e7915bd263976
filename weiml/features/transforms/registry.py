"""Transforms by name: from configuration, and fitted ones to files and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from weiml.config import nearest
from weiml.errors import ConfigError, DataError
from weiml.features.transforms.base import FORMAT, Fitted, Transform

__all__ = [
    "TRANSFORMS",
    "fitted_from_mapping",
    "load_fitted",
    "register",
    "transform_from_mapping",
]

T = TypeVar("T", bound=type[Transform])

TRANSFORMS: dict[str, type[Transform]] = {}


def register(name: str) -> Callable[[T], T]:
    """Make a class of transforms known by its name.

    The class needs ``from_mapping(mapping, where=…)``, which reads its configuration, and
    ``read_state(transform, state)``, which reads what was fitted; `Derived` has both.
    """

    def known(cls: T) -> T:
        if name in TRANSFORMS:
            raise ConfigError(f"transform {name!r} is registered already")
        cls.name = name
        TRANSFORMS[name] = cls
        return cls

    return known


def transform_from_mapping(mapping: Any, *, where: str = "transform") -> Transform:
    """Build a transform from its configuration; `where` names it in errors.

    Raises:
        ConfigError: the type is unknown, a key is unknown or missing, or a value does not fit.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where} must be a table with a type, got {mapping!r}")
    fields = dict(mapping)
    name = fields.pop("type", None)
    if name not in TRANSFORMS:
        raise ConfigError(f"{where}: unknown transform {name!r}{nearest(str(name), TRANSFORMS)}")
    made: Transform = TRANSFORMS[name].from_mapping(fields, where=where)  # type: ignore[attr-defined]
    return made


def fitted_from_mapping(mapping: Any, *, where: str = "fitted transform") -> Fitted:
    """Build a fitted transform from what its `Fitted.to_mapping` gave.

    Raises:
        DataError: the mapping is not of that form.
    """
    try:
        transform = transform_from_mapping(mapping["transform"], where=where)
        fitted: Fitted = type(transform).read_state(transform, mapping["state"])  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where} cannot be read: {error!r}") from None
    return fitted


def load_fitted(path: str | Path) -> Fitted:
    """Read a fitted transform written by `Fitted.save`.

    Raises:
        DataError: the file is missing, damaged or of another format.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"transform file {path} does not exist") from None
    except ValueError as error:
        raise DataError(f"{path} is not a transform file: {error}") from None
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} has format {found}, this weiml reads {FORMAT}")
    return fitted_from_mapping(tree, where=str(path))
