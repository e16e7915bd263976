"""The types of features, and crosses of their slots. They know no data.

Each type has a tag that enters the ids of its values (`weiml.hashing.TypeTag`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from weiml.errors import ConfigError
from weiml.hashing import TypeTag

__all__ = [
    "Binary",
    "Categorical",
    "Continuous",
    "Cross",
    "CrossGroups",
    "Feature",
    "Sequence",
    "SparseBinary",
    "SparseContinuous",
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
    """Text: a slot with a key for each of the first tokens.

    Tokens are runs of letters and digits with their marks, in Unicode's form NFKC and lower case:
    those of `weiml.features.transforms.Tokens`, but for Han characters, which stay in runs.
    """

    tag: ClassVar[TypeTag] = TypeTag.TEXT
    name: str
    max_tokens: int = field(default=16, kw_only=True)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(
                f"feature {self.name!r}: max_tokens must be at least 1, got {self.max_tokens}"
            )


@dataclass(frozen=True)
class SparseContinuous:
    """Named numbers of an example: a slot with a key for each entry, and its number as value.

    The column is a ``map<string, number>`` or a ``list<struct<key, value>>``; or, with `values`, a
    list of keys beside which another column holds the list of their numbers. An entry whose number
    is missing, not finite or beyond float32 is left out, as if the example did not have it.
    """

    tag: ClassVar[TypeTag] = TypeTag.SPARSE_CONTINUOUS
    name: str
    values: str | None = field(default=None, kw_only=True)
    """The column of the numbers, where keys and numbers stand in parallel lists."""

    def __post_init__(self) -> None:
        if self.values == self.name:
            raise ConfigError(
                f"feature {self.name!r}: values names the column of the numbers, which cannot be "
                "that of the keys; leave it out for a column of maps"
            )


@dataclass(frozen=True)
class Sequence:
    """A history of ids (a list column), oldest first: a slot with a key for each, in order."""

    tag: ClassVar[TypeTag] = TypeTag.SEQUENCE
    name: str
    max_length: int = field(default=50, kw_only=True)
    """At most so many keys an example."""
    keep: Literal["last", "first"] = field(default="last", kw_only=True)
    """Which end of a longer list is kept."""
    length: int | None = field(default=None, kw_only=True)
    """Exactly so many keys an example, whatever `max_length`: shorter lists are filled up at the
    front with the feature's padding key."""
    ids_of: str | None = field(default=None, kw_only=True)
    """A `Categorical` feature whose ids the entries have, so that both share rows."""

    def __post_init__(self) -> None:
        for name in ("max_length", "length"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f"feature {self.name!r}: {name} must be at least 1, got {number}")
        if self.keep not in ("last", "first"):
            raise ConfigError(f"feature {self.name!r}: keep must be last or first: {self.keep!r}")


@dataclass(frozen=True)
class Cross:
    """The product of slots: a slot with a key for each combination of the members' keys."""

    tag: ClassVar[TypeTag] = TypeTag.CROSS
    name: str
    of: tuple[str, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise ConfigError(f"cross {self.name!r} needs at least 2 members, got {self.of!r}")


@dataclass(frozen=True)
class CrossGroups:
    """All of one group of slots crossed with all of another (and of more): a `Cross` for each.

    Example:
        >>> ads = CrossGroups("ads", groups=(("advertiser",), ("age", "hour")))
        >>> [cross.name for cross in ads.crosses]
        ['ads.advertiser_x_age', 'ads.advertiser_x_hour']
    """

    name: str
    groups: tuple[tuple[str, ...], ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        if len(self.groups) < 2 or not all(self.groups):
            raise ConfigError(
                f"cross groups {self.name!r} need at least 2 groups with a slot each, got "
                f"{self.groups!r}"
            )
        members = [member for group in self.groups for member in group]
        repeated = sorted({member for member in members if members.count(member) > 1})
        if repeated:
            raise ConfigError(
                f"cross groups {self.name!r}: {repeated} stand more than once; give a slot's cross "
                "with itself as a Cross of its own"
            )

    @property
    def crosses(self) -> tuple[Cross, ...]:
        """The products, the last group's members fastest: ``name.a_x_b``."""
        return tuple(
            Cross(f"{self.name}.{'_x_'.join(members)}", of=members)
            for members in itertools.product(*self.groups)
        )


Feature = Categorical | Binary | Continuous | SparseBinary | SparseContinuous | Text | Sequence
