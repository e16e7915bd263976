"""The typed space that a search draws from, checked when it is written down.

A parameter's name is a dotted path into whatever configuration the objective overrides. Knows
nothing of the sampler.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.config import from_mapping, nearest, to_mapping
from weiml.errors import ConfigError

__all__ = ["Choice", "Float", "Int", "Parameter", "Space"]

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Float:
    """A real number in [low, high], drawn evenly in the value or, with `log`, in its logarithm."""

    low: float
    high: float
    log: bool = False
    default: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)
        _check_default(self.default, self)

    def contains(self, value: Any) -> bool:
        """Whether `value` could have been drawn from here."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Int:
    """A whole number in [low, high], both included; `log` favours the small ones."""

    low: int
    high: int
    log: bool = False
    default: int | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)
        _check_default(self.default, self)

    def contains(self, value: Any) -> bool:
        """Whether `value` could have been drawn from here."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of `values`: booleans, numbers, texts, or tuples of them (a tower's layer sizes)."""

    values: tuple[Any, ...]
    default: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(_frozen(value) for value in self.values))
        object.__setattr__(self, "default", _frozen(self.default))
        if not self.values:
            raise ConfigError("values must name at least one choice, got none")
        labels = [self.encode(value) for value in self.values]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"values must be distinct, got {label!r} more than once")
        _check_default(self.default, self)

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the choices, of the same type."""
        frozen = _frozen(value)
        return any(frozen == known and type(frozen) is type(known) for known in self.values)

    def encode(self, value: Any) -> Scalar:
        """The scalar that stands for `value` in the journal; a tuple becomes its JSON text."""
        if isinstance(value, (list, tuple)):
            return json.dumps(value)
        if isinstance(value, (bool, int, float, str)):
            return value
        raise ConfigError(f"values must be booleans, numbers, texts or lists, got {value!r}")

    def decode(self, label: Scalar) -> Any:
        """The choice that `label` stands for."""
        for value in self.values:
            encoded = self.encode(value)
            if encoded == label and type(encoded) is type(label):
                return value
        raise ConfigError(f"{label!r} stands for none of the choices {self.values}")


Parameter = Float | Int | Choice
_KINDS: dict[str, type[Parameter]] = {"float": Float, "int": Int, "choice": Choice}


@dataclass(frozen=True)
class Space:
    """Parameters by name; the order is the order of the tables and plots."""

    parameters: Mapping[str, Parameter]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ConfigError("the search space is empty: give at least one parameter")
        names = list(self.parameters)
        for name in names:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ConfigError(f"parameter {name!r} is not a dotted path such as model.lr")
            parent = next((other for other in names if name.startswith(f"{other}.")), None)
            if parent is not None:
                raise ConfigError(f"parameter {name!r} lies inside parameter {parent!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str = "space") -> Space:
        """Build from ``{"a.b": {"type": "float", "low": 0.1, "high": 1.0}, ...}``.

        Raises:
            ConfigError: a type or key is unknown, a bound is missing or does not fit.
        """
        parameters: dict[str, Parameter] = {}
        for name, table in mapping.items():
            place = f"{where}: {name}"
            if not isinstance(table, Mapping) or "type" not in table:
                raise ConfigError(f"{place} must be a table with type, got {table!r}")
            kind = table["type"]
            if kind not in _KINDS:
                raise ConfigError(f"{place}: unknown type {kind!r}{nearest(str(kind), _KINDS)}")
            rest = {key: value for key, value in table.items() if key != "type"}
            parameters[name] = from_mapping(_KINDS[kind], rest, where=place)
        try:
            return cls(parameters)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Space:
        """Read the ``[space]`` table of a TOML file; names with dots are quoted there.

        Raises:
            ConfigError: the file is missing or malformed, or the space is wrong.
        """
        file = Path(path)
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"search space file {file} does not exist") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid TOML: {error}") from None
        if not isinstance(tree.get("space"), dict):
            raise ConfigError(f"{file} has no [space] table")
        return cls.from_mapping(tree["space"], where=str(file))

    def to_mapping(self) -> dict[str, Any]:
        """The inverse of `from_mapping`, fit for JSON; what was not given stays out."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        return {
            name: {"type": kinds[type(parameter)]}
            | {key: value for key, value in to_mapping(parameter).items() if value is not None}
            for name, parameter in self.parameters.items()
        }

    def defaults(self) -> dict[str, Any]:
        """The parameters that have a default, with it; empty when none has."""
        return {
            name: parameter.default
            for name, parameter in self.parameters.items()
            if parameter.default is not None
        }

    def check(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError unless `params` is a point of this space."""
        for name, value in params.items():
            if name not in self.parameters:
                raise ConfigError(f"unknown parameter {name!r}{nearest(name, self.parameters)}")
            if not self.parameters[name].contains(value):
                raise ConfigError(f"{name} = {value!r} is outside of {self.parameters[name]}")
        missing = [name for name in self.parameters if name not in params]
        if missing:
            raise ConfigError(f"parameters without a value: {', '.join(missing)}")

    @staticmethod
    def nested(params: Mapping[str, Any]) -> dict[str, Any]:
        """Dotted names as nested tables: ``{"a.b": 1}`` becomes ``{"a": {"b": 1}}``."""
        tree: dict[str, Any] = {}
        for name, value in params.items():
            *parents, leaf = name.split(".")
            branch = tree
            for parent in parents:
                branch = branch.setdefault(parent, {})
            branch[leaf] = value
        return tree


def _check_range(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ConfigError(f"low must be less than high, both finite, got {low} and {high}")
    if log and low <= 0:
        raise ConfigError(f"low must be above 0 when log is set, got {low}")


def _check_default(default: Any, parameter: Parameter) -> None:
    if default is not None and not parameter.contains(default):
        raise ConfigError(f"default must lie in the parameter's range, got {default!r}")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value
