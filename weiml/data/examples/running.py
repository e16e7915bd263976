"""Running a plan: to tables, sinks, fitted transforms, batches, statistics; here or on Ray."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

import pyarrow as pa

from weiml.data.batches import BatchDataset, BatchSink
from weiml.data.datasets import ProgressCallback
from weiml.data.examples.columns import check_columns
from weiml.data.examples.display import explained, table_text
from weiml.data.examples.endings import Accumulate, M, add_names, add_table, count
from weiml.data.examples.engine import Engine, LocalEngine
from weiml.data.examples.plan import Chained, Plan, has_exchange
from weiml.data.examples.rows import Encode, Select
from weiml.data.quality import Checks, TableStatistics, check, require_none
from weiml.data.sources import FeatureSink
from weiml.errors import ConfigError
from weiml.features import FeatureEncoder, FeatureSpec, KeyNames
from weiml.features.transforms import Fitted, Transform

__all__ = ["RunOptions", "Running"]

_LOCAL_BYTES = 256 << 20
_CARRIED_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a plan runs.

    The examples are the same in any case, and their order too, but for `partitions`, and for what
    `carried_bytes` decides of joins that do not say how.
    """

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


class Running:
    """A plan, and how it runs: the half of `Examples` that reads data."""

    def __init__(self, plan: Plan, options: RunOptions | None = None) -> None:
        self.plan = plan
        self.options = options or RunOptions()

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""
        return self.plan.schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def iter_tables(self) -> Iterator[pa.Table]:
        """Yield the examples, in their order, as tables.

        In this process a few pieces are in memory at a time, one only if there is one in all; on
        Ray the result is made first, and lies in its object store, which spills to disk.
        """
        with self._engine() as engine:
            yield from engine.tables(self.plan)

    def to_table(self) -> pa.Table:
        """Return all examples."""
        with self._engine() as engine:
            return engine.table(self.plan)

    def count(self) -> int:
        """Return how many examples there are."""
        with self._engine() as engine:
            return sum(engine.run(engine.compile(self._narrowed(self.columns[:1]).plan), count))

    def fit(self, transform: Transform) -> Fitted:
        """Fit a transform on these examples: each piece by itself, then joined in their order.

        Raises:
            DataError: a column is missing or has the wrong type, or there is too little to fit on.
        """
        check_columns(self.schema, transform.fitted_on, f"fit {transform.name}")
        narrow = self._narrowed(transform.fitted_on)
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
        encoded = Running(Chained(self.plan, Encode(encoder=encoder)), self.options)
        dataset: BatchDataset = encoded.write(sink)
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

    def show(self, rows: int = 10, file: TextIO | None = None) -> None:
        """Print the first examples."""
        print(table_text(self.head(rows)), file=file)

    def head(self, rows: int = 10) -> pa.Table:
        """Return the first examples; a plan that brings none together reads no more than these."""
        found: list[pa.Table] = []
        left = rows
        if has_exchange(self.plan):
            tables = self.iter_tables()
        else:
            tables = LocalEngine(self.options.partitions).stream(self.plan)
        for table in tables:
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

    def _accumulated(self, make: Callable[[], M], add: Callable[[M, pa.Table], None]) -> M:
        """Return what all examples leave in an accumulator: each piece's own, joined in order."""
        with self._engine() as engine:
            seen = make()
            for part in engine.run(engine.compile(self.plan), Accumulate(make, add)):
                seen.merge(part)
        return seen

    def _fitted(self, seen: Any) -> Any:
        """Return what an accumulator gives after all of its passes over the examples."""
        copy.deepcopy(seen).add(self.schema.empty_table())  # tells what is wrong at once
        following = seen
        while following is not None:
            seen = self._accumulated(partial(copy.deepcopy, following), add_table)
            following = seen.then()
        return seen.fitted()

    def _narrowed(self, columns: Sequence[str]) -> Running:
        """Return some of the columns."""
        select = Select(names={name: name for name in columns})
        return Running(Chained(self.plan, select), self.options)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        chosen = self.options.engine
        if chosen == "auto":
            size = self.plan.num_bytes()
            small = size is not None and size <= self.options.local_bytes
            chosen = "local" if small else "ray"
        if chosen == "local":
            yield LocalEngine(self.options.partitions, self.options.progress)
            return
        from weiml.cluster import keep_ray
        from weiml.data.examples.ray_engine import RayEngine

        keep_ray()
        yield RayEngine(self.options.partitions, self.options.progress)
