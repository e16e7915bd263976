"""Configuration: TOML files and ``--set a.b=c`` overrides to frozen dataclasses, checked.

Defaults live in the dataclasses. This module knows nothing of any particular configuration.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from weiml.errors import ConfigError

__all__ = [
    "from_mapping",
    "lay_over",
    "load_config",
    "nearest",
    "parse_overrides",
    "to_mapping",
]

C = TypeVar("C")


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest candidate, or the list of what is known."""
    known = sorted(candidates)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else "; none are known"


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Turn ``["a.b=3", "c=x"]`` into ``{"a": {"b": 3}, "c": "x"}``; values are TOML, else text."""
    tree: dict[str, Any] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"override {override!r} is not of the form a.b=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        branch = tree
        for key in keys[:-1]:
            if isinstance(branch.get(key), str):
                branch[key] = {"name": branch[key]}
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"override {override!r} goes below a value set by another one")
        branch[keys[-1]] = value
    return tree


def load_config(cls: type[C], path: str | Path, overrides: Iterable[str] = ()) -> C:
    """Read a TOML file into the dataclass `cls`, overrides on top.

    Raises:
        ConfigError: the file is missing or malformed, a key is unknown, or a value does not fit.
    """
    file = Path(path)
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {file} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    return from_mapping(cls, tree, overrides=overrides, where=str(file))


def from_mapping(
    cls: type[C],
    mapping: Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    where: str = "config",
) -> C:
    """Build the dataclass `cls` from nested mappings, ``a.b=value`` overrides on top.

    `where` names the place in error messages.

    Raises:
        ConfigError: a key is unknown (the nearest known one is named), missing, or of another type.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} is not a dataclass")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = _hints_of(cls)
    arguments: dict[str, Any] = {}
    for key, value in lay_over(mapping, parse_overrides(overrides)).items():
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, fields)}")
        arguments[key] = _convert(value, hints[key], f"{where}: {key}")
    missing = [
        name
        for name, field in fields.items()
        if name not in arguments
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: missing key {', '.join(map(repr, missing))}")
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


@functools.cache
def _hints_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def to_mapping(config: Any) -> dict[str, Any]:
    """Return a dataclass as nested plain dictionaries and lists, fit for JSON and TOML."""
    tree = _plain(config)
    if not isinstance(tree, dict):
        raise TypeError(f"{config!r} is not a dataclass")
    return tree


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def lay_over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `top` over `base`, table by table. A name stands for the table ``{"name": name}``.

    Where `top` names another than `base`, what `base` says of its own is left out.
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, str):
            below = {"name": below}
        if isinstance(below, Mapping) and value == below.get("name"):
            continue  # the one that is there already, whatever else its table says
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        if both and not _names_agree(value, below):
            both = False
        merged[key] = lay_over(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _names_agree(top: Mapping[str, Any], base: Any) -> bool:
    """Whether two tables may be of one thing: not of a model "lr" and a model "dnn"."""
    return "name" not in top or "name" not in base or top["name"] == base["name"]


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Check `value` against a type hint; lists become tuples and mappings become dataclasses."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, get_args(hint), where)
    if origin is Literal:
        choices = get_args(hint)
        if value in choices:
            return value
        hint_text = nearest(value, map(str, choices)) if isinstance(value, str) else ""
        raise ConfigError(f"{where} must be one of {choices}, got {value!r}{hint_text}")
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_convert(v, inner[0], f"{where}[{i}]") for i, v in enumerate(value))
        if len(inner) == len(value):
            return tuple(
                _convert(v, h, f"{where}[{i}]")
                for i, (v, h) in enumerate(zip(value, inner, strict=True))
            )
        raise ConfigError(f"{where} must have {len(inner)} entries, got {len(value)}")
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table, got {value!r}")
        return dict(value)
    if hasattr(hint, "__from_config__"):  # a family of dataclasses that choose by themselves
        return hint.__from_config__(value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return from_mapping(hint, value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if isinstance(hint, type) and isinstance(value, hint) and not wrong_bool:
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{where} must be {name}, got {value!r}")


def _convert_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    real = [choice for choice in choices if choice is not type(None)]
    real = [choice for choice in real if hasattr(choice, "__from_config__")] or real
    errors = []
    for choice in real:
        try:
            return _convert(value, choice, where)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError("; or ".join(errors))
