"""The encoder: raw Arrow tables to batches, by the same code offline and online.

It is fitted on training data (means, deviations, quantile boundaries), saved as JSON, and knows
nothing of where the tables come from. Reading columns (`columns`) and assembling a batch of them
(`assemble`) are apart, for readers that hash by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from weiml.errors import DataError
from weiml.features.assemble import assemble
from weiml.features.batch import Batch
from weiml.features.columns import RawColumns, read_columns, read_numbers
from weiml.features.names import KeyNames
from weiml.features.scales import Scale, ScaleAccumulator
from weiml.features.spec import FeatureSpec
from weiml.features.transforms.base import Accumulator, Fitted
from weiml.features.transforms.registry import fitted_from_mapping
from weiml.features.types import Continuous
from weiml.files import written_aside

__all__ = ["EncoderAccumulator", "FeatureEncoder"]

_FORMAT = 2


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
        self._scales: dict[str, Scale] | None = {} if not spec.dense + spec.transforms else None
        self._prepared: Fitted | None = None

    def fit(self, tables: pa.Table | Iterable[pa.Table]) -> FeatureEncoder:
        """Fit on a training table, or on tables that come one after the other; return self.

        Tables that come once only are kept in memory if the spec's transforms need several passes.

        Raises:
            DataError: a column is missing or of the wrong type, or there is no row.
        """
        given = [tables] if isinstance(tables, pa.Table) else tables
        if self.spec.transforms and isinstance(given, Iterator):
            given = list(given)
        following: EncoderAccumulator | None = self.accumulator()
        while following is not None:
            seen = following
            for table in given:
                seen.add(table)
            following = seen.then()
        fitted = seen.fitted()
        self._scales, self._prepared = fitted._scales, fitted._prepared
        return self

    def accumulator(self) -> EncoderAccumulator:
        """Return what to fit with in parts, each worker its own; it has seen nothing."""
        return EncoderAccumulator(self.spec)

    def encode(self, table: pa.Table, *, labels: bool = True) -> Batch:
        """Return the batch of a table's rows, in order; ``labels=False`` gives labels of 0.

        Raises:
            DataError: the encoder is not fitted, or a column is missing or of the wrong type.
        """
        self._fitted()
        return self.assemble(read_columns(self.spec, self.prepare(table), labels=labels))

    def prepare(self, table: pa.Table) -> pa.Table:
        """Return a table with the spec's transforms applied.

        Raises:
            DataError: the encoder is not fitted, or a column is missing or of the wrong type.
        """
        self._fitted()
        return table if self._prepared is None else self._prepared.apply(table)

    def assemble(self, columns: RawColumns) -> Batch:
        """Return the batch of columns that were read, and hashed, by `read_columns` or otherwise.

        Raises:
            DataError: the encoder is not fitted, a feature is missing, or arrays do not fit.
        """
        return assemble(self.spec, columns, self._fitted())

    def key_names(self, table: pa.Table) -> pa.Table:
        """Return the distinct ids of a table's values; see `KeyNames.to_table`."""
        names = KeyNames()
        names.add(self.spec, self.prepare(table))
        return names.to_table()

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
        if self._prepared is not None:
            tree["prepared"] = self._prepared.to_mapping()
        text = json.dumps(tree, indent=1, allow_nan=False)
        with written_aside(path) as aside:
            aside.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> FeatureEncoder:
        """Read an encoder written by `save`.

        Raises:
            DataError: the file is missing, damaged or of another format, or what was fitted is not
                what its spec needs.
        """
        try:
            tree = json.loads(Path(path).read_text(encoding="utf-8"))
            if tree["format"] != _FORMAT:
                raise DataError(
                    f"{path} has format {tree['format']}, this weiml reads {_FORMAT}: fit the "
                    "encoder and train again (since format 2 a feature's type is part of its ids)"
                )
            encoder = cls(FeatureSpec.from_mapping(tree["spec"], where=str(path)))
            encoder._scales = _read_scales(encoder.spec, tree["scales"])
            encoder._prepared = _read_prepared(encoder.spec, tree.get("prepared"), str(path))
        except FileNotFoundError:
            raise DataError(f"encoder file {path} does not exist") from None
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise DataError(f"{path} is not an encoder file: {reason}") from None
        return encoder

    def _fitted(self) -> dict[str, Scale]:
        if self._scales is None:
            raise DataError("the encoder is not fitted: call fit(training_table) first")
        return self._scales


def _read_scales(spec: FeatureSpec, tree: Any) -> dict[str, Scale]:
    """Return the scales of a file's tree, one for each `Continuous` of the spec."""
    if not isinstance(tree, dict) or set(tree) != set(spec.dense):
        found = sorted(tree) if isinstance(tree, dict) else f"{tree!r:.100}"
        raise ValueError(f"its scales must be of {sorted(spec.dense)}, got {found}")
    scales = {
        name: Scale(
            float(scale["mean"]), float(scale["deviation"]), tuple(map(float, scale["boundaries"]))
        )
        for name, scale in tree.items()
    }
    for name, scale in scales.items():
        rising = all(a < b for a, b in pairwise(scale.boundaries))
        if not rising or not isfinite(scale.mean) or not 0 < scale.deviation < inf:
            raise ValueError(f"the scale of {name!r} is none: {scale}")
    return scales


def _read_prepared(spec: FeatureSpec, tree: Any, where: str) -> Fitted | None:
    """Return the fitted transforms of a file's tree: those of the spec, and none if it has none."""
    prepared = None if tree is None else fitted_from_mapping(tree, where=where)
    if (None if prepared is None else prepared.transform) != spec.preparation:
        raise ValueError("what was fitted of the transforms is not of the spec's transforms")
    return prepared


class EncoderAccumulator:
    """What an encoder has to remember of the training data. Picklable; not thread-safe.

    Example:
        >>> import pyarrow as pa
        >>> from weiml.features import Continuous, FeatureSpec
        >>> encoder = FeatureEncoder(FeatureSpec(features=(Continuous("age"),)))
        >>> first, second = encoder.accumulator(), encoder.accumulator()
        >>> first.add(pa.table({"age": [20.0]}))
        >>> second.add(pa.table({"age": [40.0]}))
        >>> first.merge(second)
        >>> first.fitted().encode(pa.table({"age": [40.0]}), labels=False).dense.tolist()
        [[1.0]]
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        preparing: Accumulator | None = None,
        prepared: Fitted | None = None,
    ) -> None:
        self.spec = spec
        self.num_rows = 0
        chain = spec.preparation
        if chain is not None and preparing is None and prepared is None:
            if chain.learns:
                preparing = chain.accumulator()
            else:
                prepared = chain.accumulator().fitted()
        self._preparing = preparing
        self._prepared = prepared
        continuous = (f for f in spec.features if isinstance(f, Continuous))
        self._scales = {feature.name: ScaleAccumulator(feature) for feature in continuous}

    def add(self, table: pa.Table) -> None:
        """Take in the rows of a table.

        Raises:
            DataError: a column is missing or of the wrong type.
        """
        self.num_rows += table.num_rows
        if self._preparing is not None:
            self._preparing.add(table)
            return
        ready = table if self._prepared is None else self._prepared.apply(table)
        for scale in self._scales.values():
            scale.add(read_numbers(ready, scale.feature))

    def merge(self, other: EncoderAccumulator) -> None:
        """Take in what another accumulator of the same spec has seen, after one's own.

        Raises:
            DataError: it is of another spec.
        """
        if other.spec != self.spec:
            raise DataError("accumulators of different feature specs cannot be merged")
        if (self._preparing is None) != (other._preparing is None):
            raise DataError("accumulators of different passes over the data cannot be merged")
        if self._preparing is not None and other._preparing is not None:
            self._preparing.merge(other._preparing)
        for name, scale in self._scales.items():
            scale.merge(other._scales[name])
        self.num_rows += other.num_rows

    def then(self) -> EncoderAccumulator | None:
        """Return the accumulator of the next pass over the data, None if this was the last.

        The spec's transforms take a pass or several before what features are fitted on is there;
        without `Continuous` features there is nothing more to fit, and no further pass.

        Raises:
            DataError: no row has been seen.
        """
        if self._preparing is None:
            return None
        if self.num_rows == 0:
            raise DataError("an encoder cannot be fitted on an empty table")
        again = self._preparing.then()
        if again is not None:
            return EncoderAccumulator(self.spec, preparing=again)
        if not self._scales:
            return None  # nothing else is fitted
        return EncoderAccumulator(self.spec, prepared=self._preparing.fitted())

    def fitted(self) -> FeatureEncoder:
        """Return the fitted encoder.

        Raises:
            DataError: no row has been seen.
        """
        if self.num_rows == 0:
            raise DataError("an encoder cannot be fitted on an empty table")
        prepared = self._prepared
        if self._preparing is not None:
            if self._scales:
                raise DataError("the spec's transforms need another pass: go on with then()")
            prepared = self._preparing.fitted()
        encoder = FeatureEncoder(self.spec)
        encoder._scales = {name: scale.fitted() for name, scale in self._scales.items()}
        encoder._prepared = prepared
        return encoder
