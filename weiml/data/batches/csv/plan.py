"""What becomes of each column of a CSV file for a feature spec, and reading blocks by that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.data.batches.csv import fields
from weiml.data.batches.csv.blocks import Block
from weiml.data.batches.csv.rarities import Rarities
from weiml.data.batches.csv.utf8 import all_utf8
from weiml.data.formats import BadRow
from weiml.errors import ConfigError, DataError
from weiml.features import (
    Binary,
    Categorical,
    Continuous,
    FeatureSpec,
    Sequence,
    SparseBinary,
    Text,
)
from weiml.hashing import feature_seed, hash_key
from weiml.ps.rows.memory import address_of

__all__ = ["ColumnPlan", "ParsedBlock"]

_KINDS: dict[type, int] = {
    Categorical: fields.KEY,
    Continuous: fields.NUMBER,
    Binary: fields.FLAG,
    Text: fields.TEXT,
    SparseBinary: fields.TEXT,
    Sequence: fields.TEXT,
}


@dataclass(frozen=True, eq=False)
class ParsedBlock:
    """The columns of a block's good rows, by name."""

    rows: np.ndarray
    """int64 ``(n,)``, their numbers within the file."""
    keys: Mapping[str, np.ndarray]
    """uint64 ``(n,)``."""
    numbers: Mapping[str, np.ndarray]
    """float64 ``(n,)``, NaN where missing; of flags 0 or 1."""
    integers: Mapping[str, np.ndarray]
    """int64 ``(n,)``."""
    texts: Mapping[str, pa.Array]
    """Strings."""
    bad: list[tuple[int, BadRow]]
    """The rows that are left out with their numbers, in their order."""


class ColumnPlan:
    """Which columns are read as what. Immutable, so thread-safe.

    Raises:
        DataError: a column is missing.
        ConfigError: one column is needed in two ways, or a feature's type cannot come from CSV.
    """

    def __init__(self, spec: FeatureSpec, columns: Iterable[str], *, labels: bool) -> None:
        self.columns = tuple(columns)
        kinds = dict.fromkeys(self.columns, fields.SKIP)
        required = set()
        for feature in spec.features:
            if type(feature) not in _KINDS:
                raise ConfigError(
                    f"feature {feature.name!r} of type {type(feature).__name__} cannot be read "
                    f"from CSV directly: read tables, and encode those"
                )
            self._need(kinds, feature.name, _KINDS[type(feature)])
        if labels:
            for name in spec.label_names:
                self._need(kinds, name, fields.NUMBER)
            if len(spec.label_names) == 1:  # of several, one may be missing
                required.add(spec.label)
        if spec.time in kinds:
            self._need(kinds, spec.time, fields.INTEGER)
            required.add(spec.time)
        for name in (spec.group, spec.item):
            if name in kinds:
                self._need(kinds, name, fields.KEY)
        self.kinds = np.array(list(kinds.values()), np.int64)
        self.required = np.array([name in required for name in self.columns])
        self.seeds = np.array([feature_seed(name) for name in self.columns], np.uint64)
        self.missing = np.array([hash_key(name, None) for name in self.columns], np.uint64)

    def _need(self, kinds: dict[str, int], name: str, kind: int) -> None:
        if name not in kinds:
            raise DataError(f"column {name!r} is missing{nearest(name, kinds)}")
        if kinds[name] not in (fields.SKIP, kind):
            raise ConfigError(
                f"column {name!r} is needed as two different things, a category, a number, a time "
                f"or text: read tables, and encode those"
            )
        kinds[name] = kind

    def parse(self, block: Block, delimiter: str) -> ParsedBlock:
        """Read a block. It lets go of the interpreter's lock while it does the work."""
        out = _Columns(self, block.rows + 1)
        starts = np.empty(block.rows + 1, np.int64)
        room = np.empty(block.size if block.quoted else 0, np.uint8)
        careful = np.isin(self.kinds, (fields.NUMBER, fields.INTEGER, fields.FLAG)).sum()
        slow = np.empty((careful * (block.rows + 1), 4), np.int64)
        bad = np.empty((block.rows + 1, 4), np.int64)
        clean = all_utf8(block.text, block.size)
        rows, slows, bads = fields.parse_rows(
            address_of(block.text), block.size, np.uint8(ord(delimiter)), block.quoted, clean,
            self.kinds, self.required, self.seeds, self.missing, out.targets, out.steps,
            starts, address_of(room), slow, bad,
        )  # fmt: skip
        rarities = Rarities(block, self.columns, self.kinds, self.required)
        rarities.add_rows(bad[:bads])
        kept = rarities.resolve(slow[:slows], out.targets, out.steps, starts[:rows])
        # All rows in their order: what begins where, and so which number it has.
        order = np.sort(np.concatenate([starts[:rows], bad[:bads, 0]]))
        places = block.row + np.searchsorted(order, starts[:rows])
        numbers = block.row + np.searchsorted(order, rarities.starts())
        bad_rows = list(zip(numbers.tolist(), rarities.bad_rows(), strict=True))
        return out.take(rows, kept, places, bad_rows)


class _Columns:
    """Room for what is read, column by column, and where the compiled loop puts it."""

    def __init__(self, plan: ColumnPlan, capacity: int) -> None:
        def named(*kinds: int) -> list[str]:
            return [n for n, kind in zip(plan.columns, plan.kinds, strict=True) if kind in kinds]

        self._keys = _room(named(fields.KEY), np.uint64, (capacity,))
        self._numbers = _room(named(fields.NUMBER, fields.FLAG), np.float64, (capacity,))
        self._integers = _room(named(fields.INTEGER), np.int64, (capacity,))
        self._texts = _room(named(fields.TEXT), np.int64, (capacity, 2))
        rooms = self._keys | self._numbers | self._integers | self._texts
        self.targets = np.zeros(len(plan.columns), np.int64)
        self.steps = np.zeros(len(plan.columns), np.int64)
        for place, name in enumerate(plan.columns):
            if name in rooms:
                self.targets[place] = address_of(rooms[name])
                self.steps[place] = rooms[name].strides[0]

    def take(
        self, rows: int, kept: np.ndarray | None, places: np.ndarray, bad: list[tuple[int, BadRow]]
    ) -> ParsedBlock:
        """Return the first `rows` rows, of these only `kept` where some are left out."""

        def part(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            cut = {name: column[:rows] for name, column in columns.items()}
            return cut if kept is None else {name: array[kept] for name, array in cut.items()}

        return ParsedBlock(
            rows=places if kept is None else places[kept],
            keys=part(self._keys),
            numbers=part(self._numbers),
            integers=part(self._integers),
            texts={name: _strings(array) for name, array in part(self._texts).items()},
            bad=bad,
        )


def _room(names: list[str], dtype: type, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return dict(zip(names, np.empty((len(names), *shape), dtype), strict=True))


def _strings(texts: np.ndarray) -> pa.Array:
    """Return pieces of text, which are UTF-8, as strings."""
    data, offsets = fields.gather_texts(texts)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers).cast(pa.string())
