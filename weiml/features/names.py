"""What keys stand for: the distinct values of each feature, kept beside the data.

A key is a hash and cannot be read back, so whoever wants to read a model, or to know how many
values share a key, keeps the values' texts. Keys follow from them: they are not kept meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weiml.config import nearest
from weiml.errors import DataError
from weiml.features.columns import distinct_values
from weiml.features.lists import padding_key
from weiml.features.spec import FeatureSpec
from weiml.features.types import Feature, Sequence
from weiml.files import written_aside
from weiml.hashing import TypeTag, feature_seed, hash_values, text_form

__all__ = ["Collisions", "KeyNames", "count_collisions", "feature_ids"]

PADDING = "(padding)"
_SCHEMA = pa.schema(
    {
        "key": pa.uint64(),
        "feature": pa.string(),
        "type": pa.string(),
        "value": pa.large_string(),
    }
)
_TAGS = {tag.name.lower(): tag for tag in TypeTag}
_FEW = 1 << 16  # texts that wait until they are made distinct


@dataclass(frozen=True, kw_only=True)
class Collisions:
    """How many values share a key with another, and how many would by chance."""

    values: int
    """Distinct (feature, value) pairs, n."""
    lost: int
    """n less the number of distinct keys: 0 if no two share one."""
    expected: float
    """n (n - 1) / 2⁶⁵: what a perfect 64-bit hash loses on average (the birthday bound)."""
    by_feature: dict[str, tuple[int, int]]
    """Of each feature: its distinct values, and how many are lost among themselves."""
    across: int
    """How many keys stand for values of more than one feature."""
    rows: pa.Table
    """The pairs that share keys: columns key, feature, type, value; in order of the keys."""


class KeyNames:
    """The values of each feature, collected table by table. Picklable; not thread-safe.

    A value is named by the feature whose id it has: those of a sequence with ``ids_of`` by that.
    Crossed keys are not listed: they follow from their members' keys.

    Example:
        >>> from weiml.features import Categorical, FeatureSpec
        >>> names = KeyNames()
        >>> spec = FeatureSpec(features=(Categorical("city"),))
        >>> names.add(spec, pa.table({"city": ["Wien", "北京", "Wien"]}))
        >>> names.to_table()["value"].to_pylist()
        ['Wien', '北京']
    """

    def __init__(self) -> None:
        self._texts: dict[tuple[str, TypeTag], _Texts] = {}
        self._padding: dict[str, int] = {}
        self._index: pa.Table | None = None

    def add(self, spec: FeatureSpec, table: pa.Table) -> None:
        """Take in the values of a table's rows.

        Raises:
            DataError: a column is missing or of the wrong type.
        """
        self._index = None
        for feature in spec.features:
            values = distinct_values(table, feature)
            if values is not None:
                self._of(*_owner(feature)).add(text_form(feature.name, values))
            if isinstance(feature, Sequence) and feature.length is not None:
                self._padding[feature.name] = padding_key(feature)

    def merge(self, other: KeyNames) -> None:
        """Take in what another has seen."""
        self._index = None
        for owner, texts in other._texts.items():
            self._of(*owner).add(texts.distinct())
        self._padding |= other._padding

    def to_table(self) -> pa.Table:
        """Return all distinct values: columns ``key``, ``feature``, ``type``, ``value``.

        A missing value is null; padding is ``(padding)``.
        """
        parts = [
            _rows(name, tag, hash_values(name, texts.distinct(), tag), texts.distinct())
            for (name, tag), texts in self._texts.items()
        ]
        for name, key in self._padding.items():
            parts.append(_rows(name, TypeTag.SEQUENCE, np.array([key], np.uint64), [PADDING]))
        return pa.concat_tables([_SCHEMA.empty_table(), *parts]).combine_chunks()

    def collisions(self) -> Collisions:
        """Count the keys that stand for more than one value, within and across features."""
        return collisions_of(self.to_table())

    def describe(self, keys: np.ndarray) -> pa.Table:
        """Return what keys uint64 ``(n,)`` stand for: n rows of the columns of `to_table`.

        Feature, type and value are null for a key that is not known. Of values that share a key
        the first is told; see `collisions`.
        """
        if self._index is None:
            self._index = self.to_table().sort_by("key")
        known = self._index["key"].to_numpy()
        places = np.searchsorted(known, np.asarray(keys, np.uint64))
        found = places < known.size
        found[found] = known[places[found]] == keys[found]
        taken = self._index.take(pa.array(places, mask=~found))
        return taken.set_column(0, "key", pa.array(np.asarray(keys, np.uint64)))

    def save(self, path: str | Path) -> None:
        """Write the names as Parquet, whole or not at all."""
        with written_aside(path) as aside:
            pq.write_table(self.to_table(), aside, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> KeyNames:
        """Read names written by `save`, and check that they hash to the keys beside them.

        Raises:
            DataError: the file is missing, damaged, or its keys are of another rule.
        """
        try:
            table = pq.read_table(path)
            table = table.select(_SCHEMA.names).cast(_SCHEMA)
        except FileNotFoundError:
            raise DataError(f"there are no key names at {path}") from None
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"{path} is not a file of key names: {error}") from None
        names = cls()
        owners = table.group_by(["feature", "type"]).aggregate([]).to_pylist()
        for owner in owners:
            mine = pc.and_(*(pc.equal(table[name], owner[name]) for name in ("feature", "type")))
            try:
                names._restore(owner["feature"], owner["type"], table.filter(mine))
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
        return names

    def _of(self, name: str, tag: TypeTag) -> _Texts:
        return self._texts.setdefault((name, tag), _Texts())

    def _restore(self, name: str, kind: str, rows: pa.Table) -> None:
        tag = _TAGS.get(kind)
        if tag is None:
            raise DataError(f"unknown feature type {kind!r}{nearest(kind, _TAGS)}")
        texts = rows["value"].combine_chunks()
        keys = rows["key"].to_numpy()
        own = hash_values(name, texts, tag) == keys
        if tag == TypeTag.SEQUENCE:
            padding = np.uint64(padding_key(Sequence(name)))
            if (keys == padding).any():
                self._padding[name] = int(padding)
            texts, own = texts.filter(pa.array(keys != padding)), own[keys != padding]
        if not own.all():
            raise DataError(
                f"the keys of feature {name!r} are not those of its values: the file was written "
                "by another version; write the data set again"
            )
        if len(texts):
            self._of(name, tag).add(texts)


class _Texts:
    """Distinct texts, made distinct now and then."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = [pa.array([], pa.large_string())]
        self._waiting = 0

    def add(self, texts: pa.Array) -> None:
        self._parts.append(texts)
        self._waiting += len(texts)
        if self._waiting > max(len(self._parts[0]), _FEW):
            self.distinct()

    def distinct(self) -> pa.Array:
        if len(self._parts) > 1:
            self._parts = [pc.unique(pa.chunked_array(self._parts, pa.large_string()))]
            self._waiting = 0
        return self._parts[0]


def collisions_of(names: pa.Table) -> Collisions:
    """Count the collisions of a table as `KeyNames.to_table` gives; a row given twice is none."""
    rows = names.select(_SCHEMA.names).group_by(_SCHEMA.names).aggregate([])
    keys = rows["key"].to_numpy()
    distinct, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shared = rows.filter(pa.array(counts[inverse] > 1)).sort_by("key")
    features = shared.group_by(["key", "feature", "type"]).aggregate([])
    _, owners = np.unique(features["key"].to_numpy(), return_counts=True)
    n = rows.num_rows
    return Collisions(
        values=n,
        lost=n - distinct.size,
        expected=n * (n - 1) / 2**65,
        by_feature=_by_feature(rows),
        across=int((owners > 1).sum()),
        rows=shared,
    )


def _by_feature(rows: pa.Table) -> dict[str, tuple[int, int]]:
    wanted = [("key", "count"), ("key", "count_distinct")]
    counted = rows.group_by("feature").aggregate(wanted).to_pylist()
    return {
        row["feature"]: (row["key_count"], row["key_count"] - row["key_count_distinct"])
        for row in counted
    }


def count_collisions(names: pa.Table) -> int:
    """Return how many distinct values of a `KeyNames` table are lost because keys are shared."""
    return collisions_of(names).lost


def feature_ids(spec: FeatureSpec) -> pa.Table:
    """Return the ids of a spec's features and crosses: columns ``id``, ``feature``, ``type``.

    An id is the 64-bit hash of type and name, `weiml.hashing.feature_seed`: the seed of the
    feature's own keys.
    """
    made = [(f.name, f.tag) for f in (*spec.features, *spec.all_crosses)]
    return pa.table(
        {
            "id": pa.array([int(feature_seed(name, tag)) for name, tag in made], pa.uint64()),
            "feature": pa.array([name for name, _ in made], pa.string()),
            "type": pa.array([tag.name.lower() for _, tag in made], pa.string()),
        }
    )


def _owner(feature: Feature) -> tuple[str, TypeTag]:
    """Return the name and type that a feature's values are hashed by."""
    if isinstance(feature, Sequence) and feature.ids_of is not None:
        return feature.ids_of, TypeTag.CATEGORICAL
    return feature.name, feature.tag


def _rows(name: str, tag: TypeTag, keys: np.ndarray, values: Any) -> pa.Table:
    n = len(keys)
    columns = [
        pa.array(keys, pa.uint64()),
        pa.repeat(pa.scalar(name, pa.string()), n),
        pa.repeat(pa.scalar(tag.name.lower(), pa.string()), n),
        pa.array(values, pa.large_string()),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)
