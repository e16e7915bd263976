"""The encoder: raw Arrow tables to batches, by the same code offline and online.

It is fitted on training data (means, deviations, quantile boundaries), saved as JSON, and knows
nothing of where the tables come from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import DataError
from weiml.features.batch import Batch
from weiml.features.slots import (
    SlotKeys,
    bucket_slot,
    categorical_slot,
    cross_slot,
    flag_slot,
    interleave,
    list_slot,
    text_slot,
    tokenize,
)
from weiml.features.spec import (
    Binary,
    Categorical,
    Continuous,
    Feature,
    FeatureSpec,
    SparseBinary,
    Text,
)
from weiml.hashing import hash_values

__all__ = ["FeatureEncoder", "count_collisions"]

_FORMAT = 2


@dataclass(frozen=True)
class _Scale:
    """What is fitted for a Continuous feature, after its transform."""

    mean: float
    deviation: float
    boundaries: tuple[float, ...]


class FeatureEncoder:
    """Encodes raw tables into batches by a feature spec. Thread-safe once fitted.

    Example:
        >>> import pyarrow as pa
        >>> from weiml.features import Categorical, Continuous, FeatureSpec
        >>> spec = FeatureSpec(features=(Categorical("user_id"), Continuous("age")))
        >>> table = pa.table({"user_id": [7, 8], "item_id": [1, 2], "age": [20.0, 40.0],
        ...                   "timestamp": [0, 1], "label": [0, 1]})
        >>> FeatureEncoder(spec).fit(table).encode(table).dense.tolist()
        [[-1.0], [1.0]]
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._scales: dict[str, _Scale] | None = None if spec.dense else {}

    def fit(self, table: pa.Table) -> FeatureEncoder:
        """Fit on a training table and return self.

        Raises:
            DataError: a column is missing or of the wrong type, or the table is empty.
        """
        if table.num_rows == 0:
            raise DataError("an encoder cannot be fitted on an empty table")
        self._scales = {
            feature.name: _fit_scale(feature, _numbers(table, feature))
            for feature in self.spec.features
            if isinstance(feature, Continuous)
        }
        return self

    def encode(self, table: pa.Table, *, labels: bool = True) -> Batch:
        """Return the batch of a table's rows, in order; ``labels=False`` gives labels of 0.

        Raises:
            DataError: the encoder is not fitted, or a column is missing or of the wrong type.
        """
        scales = self._fitted()
        B = table.num_rows
        by_name: dict[str, SlotKeys] = {}
        dense = np.zeros((B, len(self.spec.dense)), np.float32)
        for feature in self.spec.features:
            if isinstance(feature, Continuous):
                scale = scales[feature.name]
                x = _numbers(table, feature)
                standard = np.nan_to_num((x - scale.mean) / scale.deviation, nan=0.0)
                dense[:, self.spec.dense.index(feature.name)] = standard
                if feature.buckets:
                    boundaries = np.asarray(scale.boundaries)
                    by_name[feature.name] = bucket_slot(feature.name, x, boundaries)
            else:
                by_name[feature.name] = _slot(feature, _column(table, feature.name))
        for cross in self.spec.crosses:
            by_name[cross.name] = cross_slot(cross.name, [by_name[name] for name in cross.of])
        keys, offsets = interleave([by_name[name] for name in self.spec.slots], B)
        return Batch(
            labels=self._labels(table) if labels else np.zeros((B, 1), np.float32),
            weights=np.ones(B, np.float32),
            dense=dense,
            keys=keys,
            offsets=offsets,
            groups=self._ids(table, self.spec.group),
            items=self._ids(table, self.spec.item),
            times=self._times(table),
            slots=self.spec.slots,
            dense_names=self.spec.dense,
        )

    def key_names(self, table: pa.Table) -> pa.Table:
        """Return the distinct ids of a table's values: columns ``key``, ``feature``, ``value``.

        Crossed keys are not listed: they follow from their members' keys.
        """
        parts = []
        for feature in self.spec.features:
            if isinstance(feature, Continuous):
                if feature.buckets:
                    buckets = pa.array(range(len(self._fitted()[feature.name].boundaries) + 1))
                    parts.append(_names(feature, buckets))
                continue
            column = _column(table, feature.name)
            if isinstance(feature, Text):
                column = tokenize(column, feature.max_tokens)[0]
            elif isinstance(feature, SparseBinary):
                column = pc.list_flatten(column)
            elif isinstance(feature, Binary):
                column = pa.array([True])
            parts.append(_names(feature, pc.unique(column)))
        return pa.concat_tables(parts)

    def save(self, path: str | Path) -> None:
        """Write the fitted encoder as JSON, whole or not at all."""
        tree = {
            "format": _FORMAT,
            "spec": self.spec.to_mapping(),
            "scales": {
                name: {
                    "mean": scale.mean,
                    "deviation": scale.deviation,
                    "boundaries": scale.boundaries,
                }
                for name, scale in self._fitted().items()
            },
        }
        target = Path(path)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        aside.write_text(json.dumps(tree, indent=1), encoding="utf-8")
        aside.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> FeatureEncoder:
        """Read an encoder written by `save`.

        Raises:
            DataError: the file is missing, damaged or of another format.
        """
        try:
            tree = json.loads(Path(path).read_text(encoding="utf-8"))
            if tree["format"] != _FORMAT:
                raise DataError(
                    f"{path} has format {tree['format']}, this weiml reads {_FORMAT}: fit the "
                    "encoder and train again (since format 2 a feature's type is part of its ids)"
                )
            encoder = cls(FeatureSpec.from_mapping(tree["spec"], where=str(path)))
            encoder._scales = {
                name: _Scale(scale["mean"], scale["deviation"], tuple(scale["boundaries"]))
                for name, scale in tree["scales"].items()
            }
        except FileNotFoundError:
            raise DataError(f"encoder file {path} does not exist") from None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not an encoder file: {error!r}") from None
        return encoder

    def _fitted(self) -> dict[str, _Scale]:
        if self._scales is None:
            raise DataError("the encoder is not fitted: call fit(training_table) first")
        return self._scales

    def _labels(self, table: pa.Table) -> np.ndarray:
        column = _column(table, self.spec.label)
        if not _is_number(column.type):
            raise DataError(
                f"label column {self.spec.label!r} must hold numbers, got {column.type}"
            )
        values = column.cast(pa.float32()).to_numpy(zero_copy_only=False)
        if np.isnan(values).any():
            raise DataError(f"label column {self.spec.label!r} has missing values")
        return values.reshape(-1, 1)

    def _ids(self, table: pa.Table, name: str) -> np.ndarray:
        if name not in table.column_names:
            return np.zeros(table.num_rows, np.uint64)
        return hash_values(name, _column(table, name))

    def _times(self, table: pa.Table) -> np.ndarray:
        if self.spec.time not in table.column_names:
            return np.zeros(table.num_rows, np.int64)
        return _seconds(self.spec.time, _column(table, self.spec.time))


def count_collisions(names: pa.Table) -> int:
    """Return how many ids of a `FeatureEncoder.key_names` table stand for more than one value."""
    return names.num_rows - len(pc.unique(names["key"]))


def _names(feature: Feature, values: pa.Array) -> pa.Table:
    return pa.table(
        {
            "key": hash_values(feature.name, values, feature.tag),
            "feature": pa.array([feature.name] * len(values), pa.string()),
            "value": values.cast(pa.string()),
        }
    )


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise DataError(f"column {name!r} is missing{nearest(name, table.column_names)}")
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def _seconds(name: str, column: pa.Array) -> np.ndarray:
    """Return a column of times as int64 ``(B,)`` seconds, fractions cut off timestamps."""
    if column.null_count:
        raise DataError(f"time column {name!r} has {column.null_count} missing values")
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s", column.type.tz), safe=False)
    elif not _is_number(column.type):
        raise DataError(f"time column {name!r} must hold seconds or timestamps, got {column.type}")
    try:
        return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"time column {name!r} must hold whole seconds: {error}") from None


def _is_string(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


_CHECKS: dict[type, tuple[Callable[[pa.DataType], bool], str]] = {
    Binary: (pa.types.is_boolean, "booleans"),
    Categorical: (lambda kind: not _is_list(kind), "categories"),
    Continuous: (_is_number, "numbers"),
    SparseBinary: (_is_list, "lists of strings or integers"),
    Text: (_is_string, "strings"),
}


def _check(feature: Feature, kind: pa.DataType) -> None:
    fits, wanted = _CHECKS[type(feature)]
    if not fits(kind):
        raise DataError(
            f"column {feature.name!r} is {type(feature).__name__} and must hold {wanted}, "
            f"got {kind}: cast the column or change the feature's type in the spec"
        )


def _slot(feature: Feature, column: pa.Array) -> SlotKeys:
    _check(feature, column.type)
    if isinstance(feature, Binary):
        return flag_slot(feature.name, column)
    if isinstance(feature, SparseBinary):
        return list_slot(feature.name, column)
    if isinstance(feature, Text):
        return text_slot(feature.name, column.cast(pa.string()), feature.max_tokens)
    return categorical_slot(feature.name, column)


def _numbers(table: pa.Table, feature: Continuous) -> np.ndarray:
    """Return a Continuous column after its transform: float64 ``(B,)``, NaN where missing."""
    column = _column(table, feature.name)
    _check(feature, column.type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    x = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    x = np.where(np.isfinite(x), x, np.nan)
    if feature.transform == "log1p":
        if (x <= -1).any():
            raise DataError(
                f"column {feature.name!r}: transform log1p needs numbers above -1, "
                f"got {np.nanmin(x)}: use transform = 'none'"
            )
        x = np.log1p(x)
    return x


def _fit_scale(feature: Continuous, x: np.ndarray) -> _Scale:
    known = x[~np.isnan(x)]
    if known.size == 0:
        return _Scale(0.0, 1.0, ())
    deviation = float(known.std())
    boundaries: tuple[float, ...] = ()
    if feature.buckets:
        quantiles = np.quantile(known, np.arange(1, feature.buckets) / feature.buckets)
        boundaries = tuple(np.unique(quantiles).tolist())
    return _Scale(float(known.mean()), deviation if deviation > 0 else 1.0, boundaries)
