"""The feature specification: names, types and crosses of features. It knows no data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from weiml.config import from_mapping, nearest, to_mapping
from weiml.errors import ConfigError
from weiml.hashing import TypeTag

__all__ = [
    "Binary",
    "Categorical",
    "Continuous",
    "Cross",
    "Feature",
    "FeatureSpec",
    "SparseBinary",
    "Text",
]


@dataclass(frozen=True)
class Categorical:
    """One string, integer or boolean an example: a slot with exactly one key, also when missing."""

    tag: ClassVar[TypeTag] = TypeTag.CATEGORICAL
    name: str


@dataclass(frozen=True)
class Binary:
    """A flag: a slot with one key where the column is true, and none where false or missing."""

    tag: ClassVar[TypeTag] = TypeTag.BINARY
    name: str


@dataclass(frozen=True)
class Continuous:
    """A number: standardised into a dense column and, with buckets, a slot of its quantile bucket.

    A missing number is 0 (the mean) in the dense column and has a bucket of its own.
    """

    tag: ClassVar[TypeTag] = TypeTag.CONTINUOUS
    name: str
    transform: Literal["none", "log1p"] = field(default="none", kw_only=True)
    """Applied before anything else; log1p needs numbers above -1."""
    buckets: int = field(default=0, kw_only=True)
    """Number of quantile buckets; 0 makes no slot."""

    def __post_init__(self) -> None:
        if self.buckets < 0 or self.buckets == 1:
            raise ConfigError(
                f"feature {self.name!r}: buckets must be 0 (none) or at least 2, got {self.buckets}"
            )


@dataclass(frozen=True)
class SparseBinary:
    """A set of strings or integers an example (a list column): a slot with a key for each."""

    tag: ClassVar[TypeTag] = TypeTag.SPARSE_BINARY
    name: str


@dataclass(frozen=True)
class Text:
    """Text: a slot with a key for each of the first tokens (letters or digits, lower-cased)."""

    tag: ClassVar[TypeTag] = TypeTag.TEXT
    name: str
    max_tokens: int = field(default=16, kw_only=True)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(
                f"feature {self.name!r}: max_tokens must be at least 1, got {self.max_tokens}"
            )


@dataclass(frozen=True)
class Cross:
    """The product of slots: a slot with a key for each combination of the members' keys."""

    tag: ClassVar[TypeTag] = TypeTag.CROSS
    name: str
    of: tuple[str, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise ConfigError(f"cross {self.name!r} needs at least 2 members, got {self.of!r}")


Feature = Categorical | Binary | Continuous | SparseBinary | Text

_TYPES: dict[str, type[Feature]] = {
    "binary": Binary,
    "categorical": Categorical,
    "continuous": Continuous,
    "sparse_binary": SparseBinary,
    "text": Text,
}


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What an example is made of; a feature's name is also the name of its raw column.

    Raises:
        ConfigError: names repeat, or a cross names a feature that makes no slot.
    """

    features: tuple[Feature, ...]
    crosses: tuple[Cross, ...] = ()
    label: str = "label"
    """Column of the label, 0 or 1."""
    group: str = "user_id"
    """Column by which rankings are grouped in GAUC and NDCG."""
    item: str = "item_id"
    time: str = "timestamp"
    """Column of the event's time in seconds."""

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("a feature spec needs at least one feature")
        names = [feature.name for feature in (*self.features, *self.crosses)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(f"feature names must differ, got {repeated} more than once")
        slots = {feature.name for feature in self.features if _makes_slot(feature)}
        for cross in self.crosses:
            for member in cross.of:
                if member not in slots:
                    raise ConfigError(
                        f"cross {cross.name!r}: {member!r} is not a feature with a slot"
                        f"{nearest(member, slots)}"
                    )

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the sparse slots, in the order in which a batch holds them."""
        plain = tuple(feature.name for feature in self.features if _makes_slot(feature))
        return plain + tuple(cross.name for cross in self.crosses)

    @property
    def dense(self) -> tuple[str, ...]:
        """Names of the dense columns, in the order in which a batch holds them."""
        return tuple(f.name for f in self.features if isinstance(f, Continuous))

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], *, where: str = "feature spec"
    ) -> FeatureSpec:
        """Build a spec from nested mappings as in TOML or JSON; `where` names it in errors."""
        fields = dict(mapping)
        features = [
            _feature(entry, f"{where}: features[{i}]")
            for i, entry in enumerate(fields.pop("features", []))
        ]
        crosses = [
            from_mapping(Cross, entry, where=f"{where}: crosses[{i}]")
            for i, entry in enumerate(fields.pop("crosses", []))
        ]
        fields |= {"features": features, "crosses": crosses}
        return from_mapping(cls, fields, where=where)

    @classmethod
    def from_toml(cls, path: str | Path) -> FeatureSpec:
        """Read a spec from a TOML file with tables ``[[features]]`` and ``[[crosses]]``."""
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"feature spec {path} does not exist") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
        return cls.from_mapping(tree, where=str(path))

    def to_mapping(self) -> dict[str, Any]:
        """Return the spec as plain dictionaries and lists; `from_mapping` reads it back."""
        tree = to_mapping(self)
        names = {cls: name for name, cls in _TYPES.items()}
        for entry, feature in zip(tree["features"], self.features, strict=True):
            entry["type"] = names[type(feature)]
        return tree


def _makes_slot(feature: Feature) -> bool:
    return not isinstance(feature, Continuous) or feature.buckets > 0


def _feature(entry: Any, where: str) -> Feature:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a table with name and type, got {entry!r}")
    fields = dict(entry)
    kind = fields.pop("type", None)
    if kind not in _TYPES:
        hint = nearest(str(kind), _TYPES)
        raise ConfigError(f"{where}: unknown feature type {kind!r}{hint}")
    return from_mapping(_TYPES[kind], fields, where=where)
