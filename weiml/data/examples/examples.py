"""`Examples`: what to read and what to do with it, said in one sentence, run when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.durations import Window, window_name, window_seconds
from weiml.data.examples.aggregates import Aggregate, Counters, Rate
from weiml.data.examples.columns import Expression, check_columns
from weiml.data.examples.joins import How, Join
from weiml.data.examples.keys import check_times
from weiml.data.examples.plan import (
    Carried,
    CarryingJoin,
    Chained,
    Exchanged,
    Read,
    Union,
)
from weiml.data.examples.rows import (
    Apply,
    Compute,
    Encode,
    Filter,
    HashRange,
    MapTables,
    Mask,
    RowOperation,
    Sample,
    Select,
    TableFunction,
)
from weiml.data.examples.running import Running
from weiml.data.examples.timed_joins import AsOfJoin, LabelJoin
from weiml.data.examples.unbounded import UnboundedSource, function_of
from weiml.data.examples.wide import Repartition, Shuffle, WideOperation
from weiml.data.sources import (
    FeatureSource,
    FileSink,
    FileSource,
    TableSource,
)
from weiml.data.splits import SPLITS, split_by_time
from weiml.errors import ConfigError, DataError
from weiml.features import FeatureEncoder
from weiml.features.transforms import Fitted, Transform

__all__ = ["Examples"]

Columns = str | Sequence[str]
_NUMBERS = (int, float, np.integer, np.floating)


class Examples(Running):
    """Examples as they will be: a schema, and a plan that yields them. Immutable.

    Every method that returns `Examples` checks its columns and types at once, and reads nothing.
    Those that return anything else run the plan: in this process where the sources are small, else
    on Ray Data, with the same examples in the same order.

    Example:
        >>> import pyarrow as pa
        >>> from weiml.data import Examples, col
        >>> events = Examples.of(pa.table({"item": [7, 8, 7], "click": [1, 0, 0]}))
        >>> events.group_aggregate("item", ctr=("click", "mean")).filter(col("ctr") > 0).show()
        item  ctr
        7     0.5
    """

    @classmethod
    def read(cls, source: FeatureSource) -> Examples:
        """Return a source's examples; the same as ``source.read()``."""
        return cls(Read(source))

    @classmethod
    def of(cls, tables: pa.Table | Sequence[pa.Table]) -> Examples:
        """Return the rows of tables in memory."""
        return cls(Read(TableSource(tables)))

    @classmethod
    def of_stream(cls, schema: pa.Schema) -> Examples:
        """Return events that are still to come, for the row operations of a stream; see `function`.

        Example:
            >>> import pyarrow as pa
            >>> from weiml.data import Examples, col
            >>> events = Examples.of_stream(pa.schema({"item": pa.int64(), "ms": pa.int64()}))
            >>> long_enough = events.filter(col("ms") >= 1000).function()
            >>> long_enough(pa.table({"item": [1, 2], "ms": [500, 2000]}))["item"].to_pylist()
            [2]
        """
        return cls.read(UnboundedSource(schema))

    def using(self, **options: Any) -> Examples:
        """Return the same examples, to be run with other `RunOptions`: ``using(engine="ray")``."""
        return Examples(self.plan, replace(self.options, **options))

    # ------------------------------------------------------------------ each example by itself

    def filter(self, condition: Expression | Mask | float, *, seed: int = 0) -> Examples:
        """Keep examples for which a condition holds, or, given a number, a random share.

        Args:
            condition: an expression such as ``col("age") >= 18``, a function from a table to a
                mask, or a share of 0 … 1.
            seed: of the share.

        Raises:
            DataError: a column is missing, or types do not fit.
        """
        if isinstance(condition, _NUMBERS) and condition is not True and condition is not False:
            return self.sample(float(condition), seed=seed)
        if not (isinstance(condition, pc.Expression) or callable(condition)):
            raise ConfigError(
                f"filter takes an expression such as col('age') > 3, a function or a share, got "
                f"{condition!r}"
            )
        return self._then(Filter(condition=condition))

    def sample(self, share: float, *, by: Columns | None = None, seed: int = 0) -> Examples:
        """Keep a random share of the examples, or, with `by`, all examples of a share of keys."""
        if by is None:
            return self._then(Sample(share=share, seed=seed))
        Sample(share=share, seed=seed)  # checks the share
        chosen = HashRange(by=_names(by), low=0.0, high=share, seed=seed, purpose="sample")
        return self._then(chosen)

    def select(self, *columns: str, **renamed: str) -> Examples:
        """Keep columns, in this order; ``new="old"`` renames."""
        return self._then(Select(names={name: name for name in columns} | renamed))

    def drop(self, *columns: str) -> Examples:
        """Leave columns out."""
        check_columns(self.schema, columns, "drop")
        return self.select(*[name for name in self.columns if name not in columns])

    def rename(self, **renamed: str) -> Examples:
        """Rename columns, ``new="old"``, keeping all others and the order."""
        check_columns(self.schema, list(renamed.values()), "rename")
        new = {old: name for name, old in renamed.items()}
        if len(new) < len(renamed):
            raise ConfigError(f"rename gives a column two names: {renamed}; use select")
        return self._then(Select(names={new.get(name, name): name for name in self.columns}))

    def with_columns(self, **expressions: Expression | float | str | bool) -> Examples:
        """Add columns, or replace them: ``with_columns(cost=col("price") * col("amount"))``.

        Whole numbers divide as such; `weiml.data.ratio` is for rates.
        """
        made = {
            name: value if isinstance(value, pc.Expression) else pc.scalar(value)
            for name, value in expressions.items()
        }
        return self._then(Compute(expressions=made))

    def transform(self, transform: Fitted | Transform) -> Examples:
        """Apply a fitted transform; one that is not fitted yet is fitted on these examples first.

        Fitting runs the plan.
        """
        fitted = transform if isinstance(transform, Fitted) else self.fit(transform)
        return self._then(Apply(fitted=fitted))

    def encode(self, encoder: FeatureEncoder) -> Examples:
        """Encode to batches: what comes out are the columns of `Batch.to_arrow`, for a `BatchSink`.

        Raises:
            DataError: the encoder is not fitted, or a column is missing or of the wrong type.
        """
        return self._then(Encode(encoder=encoder))

    def map(self, function: TableFunction, *, schema: pa.Schema | None = None) -> Examples:
        """Apply a function from `pyarrow.Table` to `pyarrow.Table`; it sees blocks of examples.

        Args:
            function: what comes out of an example may depend on that example only.
            schema: of what it returns; found by calling it with a table of no rows if None.
        """
        return self._then(MapTables(function=function, schema=schema))

    # ------------------------------------------------------------------ joins

    def join(
        self,
        other: Examples,
        on: Columns,
        how: How = "inner",
        *,
        other_on: Columns | None = None,
        carry: bool | None = None,
    ) -> Examples:
        """Join with other examples of equal keys; missing keys are equal to nothing.

        The key's columns come out once, under their names here.

        Args:
            other: the right side; its other columns must have names of their own.
            on: key columns here, and in `other` unless `other_on` says otherwise.
            how: inner, left, right, outer; semi and anti keep the examples here with, and without,
                a match.
            other_on: key columns in `other`.
            carry: True to carry all of `other` along to each piece, False to bring both sides'
                keys together; by the size of `other` if None.

        Raises:
            DataError: a column is missing or has another type on the other side, or a name comes
                twice.
        """
        ours = _names(on)
        join = Join(left_on=ours, right_on=_names(other_on, ours), how=how)
        return self._joined(other, join, carry)

    def join_smaller(
        self, smaller: Examples, on: Columns, how: How = "inner", **named: Any
    ) -> Examples:
        """Join with examples that fit into memory: they are carried to wherever ours are."""
        return self.join(smaller, on, how, carry=True, **named)

    def join_larger(
        self, larger: Examples, on: Columns, how: How = "inner", **named: Any
    ) -> Examples:
        """Join with examples that do not fit into memory: both sides are partitioned by key."""
        return self.join(larger, on, how, carry=False, **named)

    def join_as_of(
        self,
        other: Examples,
        on: Columns,
        time: str,
        *,
        other_on: Columns | None = None,
        other_time: str | None = None,
        within: Window = None,
        same_time: bool = False,
        carry: bool | None = None,
    ) -> Examples:
        """Add what was known of the key before each example's time: the last row of `other` then.

        No example sees anything of its own time or later, unless `same_time` admits the former.

        Args:
            other: rows by key and time, in any order; of those with equal times the last counts.
            on: key columns.
            time: the time column here: integers (seconds) or timestamps.
            other_on: key columns in `other`.
            other_time: the time column in `other`.
            within: how old what is known may be.
            same_time: whether a row of just the same time counts.
            carry: as for `join`.
        """
        ours = _names(on)
        ticks = self._ticks(time, other, other_time or time)
        join = AsOfJoin(
            left_on=ours,
            right_on=_names(other_on, ours),
            left_time=time,
            right_time=other_time or time,
            ticks=ticks,
            within=_in_ticks(within, ticks),
            same_time=same_time,
        )
        return self._joined(other, join, carry)

    def label_by(
        self,
        clicks: Examples,
        on: Columns,
        time: str,
        *,
        within: Window,
        clicks_on: Columns | None = None,
        clicks_time: str | None = None,
        label: str = "label",
    ) -> Examples:
        """Label impressions by the clicks that followed: adds ``label`` and ``label_delay``.

        The label is 1 if a click with the key came at the impression's time or up to `within`
        later. A click belongs to the latest impression of its key that is not after it. The delay
        is in the unit of the time column (microseconds for timestamps), null without a click.
        """
        ours = _names(on)
        ticks = self._ticks(time, clicks, clicks_time or time)
        join = LabelJoin(
            left_on=ours,
            right_on=_names(clicks_on, ours),
            left_time=time,
            right_time=clicks_time or time,
            ticks=ticks,
            within=_in_ticks(within, ticks),
            label=label,
        )
        return self._exchanged(join, clicks)

    # ------------------------------------------------------------------ aggregates

    def group_aggregate(self, by: Columns, **aggregates: tuple[str, str] | str) -> Examples:
        """Return one example a key, with aggregates: ``clicks=("click", "sum"), n="count"``."""
        asked = {
            name: ("", value) if isinstance(value, str) else value
            for name, value in aggregates.items()
        }
        return self._exchanged(Aggregate(by=_names(by), aggregates=asked))

    def with_counters(
        self,
        by: Columns,
        time: str,
        windows: Window | Sequence[Window],
        *,
        sums: Columns = (),
        rates: Mapping[str, Rate] | None = None,
        delay: Window = 0,
        prefix: str | None = None,
    ) -> Examples:
        """Add what happened to the key within windows before each example, strictly before it.

        Args:
            by: key columns.
            time: the time column: integers (seconds) or timestamps.
            windows: lengths such as ``("1h", "7d", None)``; None counts all before.
            sums: columns to sum.
            rates: ratios with a prior, by name: ``{"ctr": Rate(of="click", prior=0.01)}``.
            delay: how long it takes until a row is known whole. What counts labels needs the time
                in which they may still come, or it sees the future.
            prefix: of the new columns; the key columns' names by default.
        """
        keys = _names(by)
        ticks = self._ticks(time)
        one = windows is None or isinstance(windows, (str, int))
        given: list[Window] = [windows] if one else list(windows)  # type: ignore
        operation = Counters(
            by=keys,
            time=time,
            windows={window_name(window): _in_ticks(window, ticks) for window in given},
            prefix=prefix or "_".join(keys),
            sums=_names(sums),
            rates=dict(rates or {}),
            delay=_in_ticks(delay, ticks) or 0,
            ticks=ticks,
        )
        return self._exchanged(operation)

    # ------------------------------------------------------------------ order and parts

    def shuffle(self, seed: int = 0) -> Examples:
        """Put all examples in a random order, fixed by the seed."""
        return self._exchanged(Shuffle(seed=seed))

    def repartition(self, partitions: int, by: Columns = ()) -> Examples:
        """Spread the examples over pieces, and part files: evenly, or by key."""
        return self._exchanged(Repartition(partitions=partitions, by=_names(by)))

    def union(self, *others: Examples) -> Examples:
        """Put other examples of the same columns behind these."""
        return Examples(Union([self.plan, *(other.plan for other in others)]), self.options)

    def split_by_hash(
        self, by: Columns, shares: Mapping[str, float] | None = None, *, seed: int = 0
    ) -> dict[str, Examples]:
        """Split by key: all examples of a user are in the same part.

        Args:
            by: key columns; name an id to split by example.
            shares: by name, summing to 1; train 0.8, validation 0.1 and test 0.1 by default.
            seed: gives another split.
        """
        shares = dict(shares or {"train": 0.8, "validation": 0.1, "test": 0.1})
        if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
            raise ConfigError(f"shares must be at least 0 and sum to 1, got {shares}")
        ends = np.cumsum([0.0, *shares.values()])
        ends[-1] = np.inf
        return {
            name: self._then(
                HashRange(
                    by=_names(by), low=float(low), high=float(high), seed=seed, purpose="split"
                )
            )
            for name, low, high in zip(shares, ends[:-1], ends[1:], strict=True)
        }

    def split_by_time(
        self, time: str, *, validation_share: float = 0.1, test_share: float = 0.1
    ) -> dict[str, Examples]:
        """Split into train, validation and test by time: the last ones are the test.

        Borders fall between times. Finding them runs the plan, for the time column only.
        """
        check_columns(self.schema, [time], "split_by_time")
        check_times(self.schema.field(time))
        column = self.select(time).to_table()[time]
        if column.null_count:
            raise DataError(f"time column {time!r} has {column.null_count} missing values")
        sorted_times = column.combine_chunks().sort()
        numbers = sorted_times.cast(pa.int64()).to_numpy(zero_copy_only=False)
        split = split_by_time(numbers, validation_share, test_share)
        starts = [sorted_times[int(np.argmax(split == name))] for name in SPLITS]
        ends: list[Any] = [*starts[1:], None]
        return {
            name: self.filter(_between(time, start, end))
            for name, start, end in zip(SPLITS, starts, ends, strict=True)
        }

    def stored(self, folder: str, **options: Any) -> Examples:
        """Write the examples and return them as read from there: for what several plans use.

        Args:
            folder: local path or URL.
            options: of `FileSink`.
        """
        sink = FileSink(folder, **options)
        self.write(sink)
        source = FileSource(folder, format=sink.format, schema=self.schema, storage=sink.storage)
        return Examples(Read(source), self.options)

    def function(self) -> TableFunction:
        """Return what this plan does to the rows of its source, for streams and for serving.

        Raises:
            DataError: the plan brings examples together, or draws them by their place.
        """
        return function_of(self.plan)

    # ------------------------------------------------------------------ inside

    def _then(self, operation: RowOperation) -> Examples:
        return Examples(Chained(self.plan, operation), self.options)

    def _exchanged(self, operation: WideOperation, *others: Examples) -> Examples:
        sides = [self.plan, *(other.plan for other in others)]
        return Examples(Exchanged(sides, operation), self.options)

    def _joined(self, other: Examples, join: CarryingJoin, carry: bool | None) -> Examples:
        if carry is None:
            size = other.plan.num_bytes()
            small = size is not None and size <= self.options.carried_bytes
            carry = join.can_be_carried and small
        if not carry:
            return self._exchanged(join, other)
        if not join.can_be_carried:
            raise ConfigError(
                f"{join} lets examples of the other side come out alone, so that side cannot be "
                "carried to each piece: use join_larger, or join from the other side"
            )
        return Examples(Carried(self.plan, other.plan, join), self.options)

    def _ticks(self, time: str, other: Examples | None = None, other_time: str = "") -> int:
        """Return the ticks a second in which times are counted, see `check_times`."""
        check_columns(self.schema, [time], "time")
        fields = [self.schema.field(time)]
        if other is not None:
            check_columns(other.schema, [other_time], "time")
            fields.append(other.schema.field(other_time))
        return check_times(*fields)


def _in_ticks(window: Window, ticks: int) -> int | None:
    seconds = window_seconds(window)
    return None if seconds is None else seconds * ticks


def _names(columns: Columns | None, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    if columns is None:
        return default
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _between(column: str, start: Any, end: Any) -> Expression:
    after = pc.field(column) >= start
    return after if end is None else after & (pc.field(column) < end)
