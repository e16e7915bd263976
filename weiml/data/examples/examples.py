"""`Examples`: what to read and what to do with it, said in one sentence, run when needed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.batches import BatchDataset, BatchSink
from weiml.data.datasets import ProgressCallback
from weiml.data.durations import Window, window_name, window_seconds
from weiml.data.examples.aggregates import Aggregate, Counters, Rate
from weiml.data.examples.columns import Expression, check_columns
from weiml.data.examples.display import explained, table_text
from weiml.data.examples.endings import Accumulate, M, add_names, add_table, count
from weiml.data.examples.engine import Engine, LocalEngine
from weiml.data.examples.joins import AsOfJoin, How, Join, LabelJoin
from weiml.data.examples.plan import (
    Carried,
    CarryingJoin,
    Chained,
    Exchanged,
    Plan,
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
from weiml.data.examples.unbounded import UnboundedSource, function_of
from weiml.data.examples.wide import Repartition, Shuffle, WideOperation
from weiml.data.quality import Checks, TableStatistics, check, require_none
from weiml.data.sources import (
    FeatureSink,
    FeatureSource,
    FileSink,
    FileSource,
    TableSource,
)
from weiml.data.splits import SPLITS, split_by_time
from weiml.errors import ConfigError, DataError
from weiml.features import FeatureEncoder, FeatureSpec, KeyNames
from weiml.features.transforms import Fitted, Transform

__all__ = ["Examples", "RunOptions"]

Columns = str | Sequence[str]
_LOCAL_BYTES = 256 << 20
_CARRIED_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a plan runs; the examples, and their order, depend on `partitions` alone."""

    engine: Literal["auto", "local", "ray"] = "auto"
    """"auto" runs in this process what is small, and all else on Ray."""
    local_bytes: int = _LOCAL_BYTES
    """Up to which size of its sources, where they are kept, a plan is small."""
    carried_bytes: int = _CARRIED_BYTES
    """Up to which size the right side of a join is carried along where nobody says."""
    partitions: int | None = None
    """Of exchanges; one for each 64 MiB of the sources if None."""
    progress: ProgressCallback | None = None
    """Told ``(what, pieces done, pieces in all)``; on Ray it switches Ray Data's own bars on."""

    def __post_init__(self) -> None:
        if self.engine not in ("auto", "local", "ray"):
            raise ConfigError(f"engine must be auto, local or ray, got {self.engine!r}")
        if self.partitions is not None and self.partitions < 1:
            raise ConfigError(f"partitions must be at least 1, got {self.partitions}")


class Examples:
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

    def __init__(self, plan: Plan, options: RunOptions | None = None) -> None:
        self.plan = plan
        self.options = options or RunOptions()

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

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""
        return self.plan.schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

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
        if isinstance(condition, (int, float)) and not isinstance(condition, bool):
            return self.sample(condition, seed=seed)
        return self._then(Filter(condition=condition))

    def sample(self, share: float, *, by: Columns | None = None, seed: int = 0) -> Examples:
        """Keep a random share of the examples, or, with `by`, all examples of a share of keys."""
        if by is None:
            return self._then(Sample(share=share, seed=seed))
        Sample(share=share, seed=seed)  # checks the share
        return self._then(HashRange(by=_names(by), low=0.0, high=share, seed=seed))

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
        return self._then(Select(names={new.get(name, name): name for name in self.columns}))

    def with_columns(self, **expressions: Expression | float | str | bool) -> Examples:
        """Add columns, or replace them: ``with_columns(ctr=col("clicks") / col("views"))``."""
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
        join = AsOfJoin(
            left_on=ours,
            right_on=_names(other_on, ours),
            left_time=time,
            right_time=other_time or time,
            within=self._length(within, time),
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
        length = self._length(within, time)
        if length is None:
            raise ConfigError("label_by needs a window: within='30m'")
        join = LabelJoin(
            left_on=ours,
            right_on=_names(clicks_on, ours),
            left_time=time,
            right_time=clicks_time or time,
            within=length,
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
        one = windows is None or isinstance(windows, (str, int))
        given: list[Window] = [windows] if one else list(windows)  # type: ignore
        operation = Counters(
            by=keys,
            time=time,
            windows={window_name(window): self._length(window, time) for window in given},
            prefix=prefix or "_".join(keys),
            sums=_names(sums),
            rates=dict(rates or {}),
            delay=self._length(delay, time) or 0,
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
            name: self._then(HashRange(by=_names(by), low=float(low), high=float(high), seed=seed))
            for name, low, high in zip(shares, ends[:-1], ends[1:], strict=True)
        }

    def split_by_time(
        self, time: str, *, validation_share: float = 0.1, test_share: float = 0.1
    ) -> dict[str, Examples]:
        """Split into train, validation and test by time: the last ones are the test.

        Borders fall between times. Finding them runs the plan, for the time column only.
        """
        check_columns(self.schema, [time], "split_by_time")
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

    # ------------------------------------------------------------------ running

    def iter_tables(self) -> Iterator[pa.Table]:
        """Yield the examples, in their order, as tables."""
        with self._engine() as engine:
            yield from engine.tables(self.plan)

    def to_table(self) -> pa.Table:
        """Return all examples."""
        with self._engine() as engine:
            return engine.table(self.plan)

    def function(self) -> TableFunction:
        """Return what this plan does to the rows of its source, for streams and for serving.

        Raises:
            DataError: the plan brings examples together, or draws them by their place.
        """
        return function_of(self.plan)

    def count(self) -> int:
        """Return how many examples there are."""
        with self._engine() as engine:
            return sum(engine.run(engine.compile(self._narrowest()), count))

    def fit(self, transform: Transform) -> Fitted:
        """Fit a transform on these examples: each piece by itself, then joined in their order.

        Raises:
            DataError: a column is missing or has the wrong type, or there is too little to fit on.
        """
        check_columns(self.schema, transform.fitted_on, f"fit {transform.name}")
        narrow = self.select(*transform.fitted_on)
        transform.output_schema(narrow.schema)
        fitted: Fitted = narrow._fitted(transform.accumulator())
        return fitted

    def fit_encoder(self, spec: FeatureSpec) -> FeatureEncoder:
        """Fit an encoder of a feature spec on these examples, as `fit` does.

        Raises:
            DataError: a column is missing or has the wrong type, or there are no examples.
        """
        chain = spec.preparation
        ready = self.schema if chain is None else chain.output_schema(self.schema)
        KeyNames().add(spec, ready.empty_table())  # tells what is wrong at once
        encoder: FeatureEncoder = self._fitted(FeatureEncoder(spec).accumulator())
        return encoder

    def stats(self) -> TableStatistics:
        """Return what the columns are like: missing, zeros, quantiles, top values, distinct."""
        return self._accumulated(TableStatistics, add_table)

    def check(
        self, checks: Checks | None = None, reference: TableStatistics | None = None
    ) -> TableStatistics:
        """Check the examples before they are used, and return their statistics.

        Args:
            checks: bounds on features and on their drift; defaults of `Checks` if None.
            reference: statistics of other examples, those of the day before, say; without them no
                drift is checked.

        Raises:
            DataError: a check failed; names feature, measure, value and threshold.
        """
        found = self.stats()
        require_none(check(found, checks or Checks(), reference), "the examples")
        return found

    def key_names(self, encoder: FeatureEncoder) -> KeyNames:
        """Return what the keys of these examples stand for, for reading models and collisions."""
        return self._accumulated(KeyNames, partial(add_names, encoder))

    def write_batches(
        self, folder: str | Path, encoder: FeatureEncoder, *, names: bool = True, **options: Any
    ) -> BatchDataset:
        """Encode the examples and write them as a data set of batches.

        Args:
            folder: to make, on a file system that all workers share.
            encoder: fitted; it is kept beside the data.
            names: keep beside the data what its keys stand for, which takes a pass of its own.
            options: of `BatchSink`.
        """
        known = self.key_names(encoder) if names else None
        sink = BatchSink(folder, encoder=encoder, names=known, **options)
        dataset: BatchDataset = self.encode(encoder).write(sink)
        return dataset

    def write(self, sink: FeatureSink) -> Any:
        """Write the examples; all of them are seen at the end, or none.

        Returns:
            What the sink gives: the folder, for files.

        Raises:
            DataError: the sink does not take them; what was written is removed.
        """
        writer = sink.open(self.schema)
        try:
            with self._engine() as engine:
                written = list(engine.run(engine.compile(self.plan), writer.write))
            return writer.commit(written)
        except BaseException:
            writer.abort()
            raise

    def stored(self, folder: str, **options: Any) -> Examples:
        """Write the examples and return them as read from there: for what several plans use.

        Args:
            folder: local path or URL.
            options: of `FileSink`.
        """
        storage = options.get("storage")
        read = FileSource(self.write(FileSink(folder, **options)), storage=storage).read()
        return Examples(read.plan, self.options)

    def show(self, rows: int = 10, file: TextIO | None = None) -> None:
        """Print the first examples."""
        print(table_text(self.head(rows)), file=file)

    def head(self, rows: int = 10) -> pa.Table:
        """Return the first examples."""
        found: list[pa.Table] = []
        left = rows
        for table in self.iter_tables():
            found.append(table.slice(0, left))
            left -= found[-1].num_rows
            if left <= 0:
                break
        return pa.concat_tables(found) if found else self.schema.empty_table()

    def explain(self) -> str:
        """Return the plan as text, an operation a line, inputs indented below it."""
        return "\n".join(explained(self.plan))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"Examples({fields})"

    # ------------------------------------------------------------------ inside

    def _then(self, operation: RowOperation) -> Examples:
        return Examples(Chained(self.plan, operation), self.options)

    def _exchanged(self, operation: WideOperation, *others: Examples) -> Examples:
        sides = [self.plan, *(other.plan for other in others)]
        return Examples(Exchanged(sides, operation), self.options)

    def _joined(self, other: Examples, join: CarryingJoin, carry: bool | None) -> Examples:
        if carry is None:
            small = other.plan.num_bytes() <= self.options.carried_bytes
            carry = join.can_be_carried and small
        if not carry:
            return self._exchanged(join, other)
        if not join.can_be_carried:
            raise ConfigError(
                f"{join} lets examples of the other side come out alone, so that side cannot be "
                "carried to each piece: use join_larger, or join from the other side"
            )
        return Examples(Carried(self.plan, other.plan, join), self.options)

    def _length(self, window: Window, time: str) -> int | None:
        """Return a window's length in the unit that a time column has."""
        check_columns(self.schema, [time], "time")
        seconds = window_seconds(window)
        stamps = pa.types.is_timestamp(self.schema.field(time).type)
        return None if seconds is None else seconds * (1_000_000 if stamps else 1)

    def _accumulated(self, make: Callable[[], M], add: Callable[[M, pa.Table], None]) -> M:
        """Return what all examples leave in an accumulator: each piece's own, joined in order."""
        with self._engine() as engine:
            seen = make()
            for part in engine.run(engine.compile(self.plan), Accumulate(make, add)):
                seen.merge(part)
        return seen

    def _fitted(self, seen: Any) -> Any:
        """Return what an accumulator gives after all of its passes over the examples."""
        following = seen
        while following is not None:
            seen = self._accumulated(partial(copy.deepcopy, following), add_table)
            following = seen.then()
        return seen.fitted()

    def _narrowest(self) -> Plan:
        """Return the plan with one column, which is enough to count."""
        return self.select(self.columns[0]).plan if self.columns else self.plan

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        chosen = self.options.engine
        if chosen == "auto":
            small = self.plan.num_bytes() <= self.options.local_bytes
            chosen = "local" if small else "ray"
        if chosen == "local":
            yield LocalEngine(self.options.partitions, self.options.progress)
            return
        from weiml.cluster import ray_running
        from weiml.data.examples.ray_engine import RayEngine

        with ray_running():
            yield RayEngine(self.options.partitions, self.options.progress)


def _names(columns: Columns | None, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    if columns is None:
        return default
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _between(column: str, start: Any, end: Any) -> Expression:
    after = pc.field(column) >= start
    return after if end is None else after & (pc.field(column) < end)
