"""The feature specification: names, types and crosses of features. It knows no data."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weiml.config import from_mapping, nearest, to_mapping
from weiml.errors import ConfigError
from weiml.features.transforms.base import Transform
from weiml.features.transforms.chain import Chain, Together
from weiml.features.transforms.registry import transform_from_mapping
from weiml.features.transforms.target_mean import TargetMean
from weiml.features.types import (
    Binary,
    Categorical,
    Continuous,
    Cross,
    CrossGroups,
    Feature,
    Sequence,
    SparseBinary,
    SparseContinuous,
    Text,
)

__all__ = ["FeatureSpec", "check_crosses"]

_TYPES: dict[str, type[Feature]] = {
    "binary": Binary,
    "categorical": Categorical,
    "continuous": Continuous,
    "sequence": Sequence,
    "sparse_binary": SparseBinary,
    "sparse_continuous": SparseContinuous,
    "text": Text,
}


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What an example is made of; a feature's name is also the name of its raw column.

    Raises:
        ConfigError: names repeat, a cross names a feature that makes no slot, a sequence takes its
            ids from what is no `Categorical`, or the transforms hold a `TargetMean`.
    """

    features: tuple[Feature, ...]
    transforms: tuple[Transform, ...] = ()
    """Applied to the raw columns first, in order; features may read what comes out. No
    `TargetMean`: training examples need its means out of fold, which an encoder cannot give."""
    crosses: tuple[Cross, ...] = ()
    """Products that are stored as slots. (A model may also take products as it reads: see
    `weiml.features.cross_blocks`.)"""
    cross_groups: tuple[CrossGroups, ...] = ()
    """Whole groups of such products."""
    label: str = "label"
    """Column of the label, 0 or 1: the short form of `labels` with one name."""
    labels: tuple[str, ...] = ()
    """Columns of several labels, one a task, in the order of the batches' columns; `label` is the
    first of them then. An example may lack some: null, or NaN, is a label that is missing."""
    group: str = "user_id"
    """Column by which rankings are grouped in GAUC and NDCG."""
    item: str = "item_id"
    time: str = "timestamp"
    """Column of the event's time in seconds."""

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("a feature spec needs at least one feature")
        names = [feature.name for feature in (*self.features, *self.all_crosses)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(f"feature names must differ, got {repeated} more than once")
        self._settle_labels()
        self._check_sequences()
        _check_transforms(self.transforms)
        slots = [feature.name for feature in self.features if _makes_slot(feature)]
        check_crosses(self.all_crosses, slots)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Columns of all labels, one or several."""
        return self.labels or (self.label,)

    def _settle_labels(self) -> None:
        """Make `label` the first of `labels`, or raise ConfigError where the two do not fit."""
        if not self.labels:
            return
        if len(set(self.labels)) < len(self.labels) or not all(self.labels):
            raise ConfigError(f"labels must have names that differ, got {self.labels}")
        if self.label not in ("label", self.labels[0]):
            raise ConfigError(
                f"label = {self.label!r} is the short form of labels with one name, and labels = "
                f"{self.labels} are given: leave label out"
            )
        object.__setattr__(self, "label", self.labels[0])

    @property
    def preparation(self) -> Chain | None:
        """The transforms as one; those that do not build on each other are fitted in one pass."""
        stages: list[list[Transform]] = []
        for transform in self.transforms:
            made = {name for other in stages[-1] for name in other.outputs} if stages else set()
            if not stages or made & {*transform.fitted_on, *transform.outputs}:
                stages.append([])
            stages[-1].append(transform)
        return Chain(*(Together(*stage) for stage in stages)) if stages else None

    @property
    def all_crosses(self) -> tuple[Cross, ...]:
        """`crosses`, then those of `cross_groups`."""
        grouped = (cross for groups in self.cross_groups for cross in groups.crosses)
        return (*self.crosses, *grouped)

    def _check_sequences(self) -> None:
        known = {feature.name for feature in self.features if isinstance(feature, Categorical)}
        for feature in self.features:
            if isinstance(feature, Sequence) and feature.ids_of not in (None, *known):
                raise ConfigError(
                    f"sequence {feature.name!r}: ids_of must name a categorical feature, got "
                    f"{feature.ids_of!r}{nearest(str(feature.ids_of), known)}"
                )

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the sparse slots, in the order in which a batch holds them."""
        plain = tuple(feature.name for feature in self.features if _makes_slot(feature))
        return plain + tuple(cross.name for cross in self.all_crosses)

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
        groups = [
            from_mapping(CrossGroups, entry, where=f"{where}: cross_groups[{i}]")
            for i, entry in enumerate(fields.pop("cross_groups", []))
        ]
        transforms = [
            transform_from_mapping(entry, where=f"{where}: transforms[{i}]")
            for i, entry in enumerate(fields.pop("transforms", []))
        ]
        fields |= {"features": features, "crosses": crosses, "cross_groups": groups}
        fields["transforms"] = transforms
        return from_mapping(cls, fields, where=where)

    @classmethod
    def from_toml(cls, path: str | Path) -> FeatureSpec:
        """Read a spec from TOML, with a table ``[[features]]`` for each feature, and the like."""
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"feature spec {path} does not exist") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
        return cls.from_mapping(tree, where=str(path))

    def to_mapping(self) -> dict[str, Any]:
        """Return the spec as plain dictionaries and lists; `from_mapping` reads it back."""
        tree = to_mapping(replace(self, transforms=()))
        if not self.labels:
            del tree["labels"]  # files of one label stay as they were
        tree["transforms"] = [transform.to_mapping() for transform in self.transforms]
        names = {cls: name for name, cls in _TYPES.items()}
        for entry, feature in zip(tree["features"], self.features, strict=True):
            entry["type"] = names[type(feature)]
        return tree


def check_crosses(crosses: Iterable[Cross], slots: Collection[str]) -> None:
    """Raise ConfigError if a cross has a member that is none of the slots."""
    for cross in crosses:
        for member in cross.of:
            if member not in slots:
                raise ConfigError(
                    f"cross {cross.name!r}: {member!r} is not a feature with a slot"
                    f"{nearest(member, slots)}"
                )


def _check_transforms(transforms: Iterable[Transform]) -> None:
    """Raise ConfigError where training would see means that the examples' own labels are in."""
    for transform in transforms:
        if isinstance(transform, TargetMean):
            raise ConfigError(
                f"transforms must not hold a TargetMean, got one of {transform.columns}: an "
                "encoder gives training examples means that count their own labels. Use "
                "weiml.features.transforms.fit_transform_out_of_fold on the training tables first, "
                "and what it fits on all others; let the features read its column"
            )
        if isinstance(transform, Chain | Together):
            _check_transforms(transform.stages)


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
