"""Counters and rates by key over windows of event time: tumbling, hopping, and as features.

Event time is cut into panes of length `every`; a window of a size is the run of panes that ends at
a pane's end. Two questions are answered from the same sums: what a window held once it is over
(rows of `advance`), and what the windows that ended with the pane before an event held, which is
what was known strictly before it (`find`, and `give="features"`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from weiml.config import nearest, to_mapping
from weiml.data.durations import milliseconds
from weiml.data.streams.measures import (
    Measure,
    Ratio,
    check_measures,
    measured,
    values_of,
)
from weiml.data.streams.operators import EVENTS, Operator
from weiml.data.streams.pane_store import PaneStore
from weiml.data.streams.watermark import BEGIN, END
from weiml.errors import ConfigError, DataError
from weiml.hashing import cross_keys, hash_values

__all__ = ["WindowConfig", "Windows", "key_hashes", "window_features"]

_NOBODY = np.uint64(1)  # asked for where a key is missing; the id of no value but by chance
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """What is counted, by which keys, over how long."""

    name: str
    """Of the operator and of the stream that it gives."""
    keys: tuple[str, ...]
    """Columns of strings, integers or booleans."""
    measures: tuple[Measure, ...]
    sizes: tuple[str, ...] = ("1h",)
    """Lengths of the windows, such as ``("1h", "24h")``; each measure has a column for each."""
    every: str | None = None
    """A window ends at every multiple of this: hopping. The shortest size by default, whose windows
    then are tumbling. All sizes must be multiples of it."""
    give: Literal["windows", "features", "nothing"] = "windows"
    """`windows`: a row for each key once a window is over. `features`: each event, once all before
    its pane have come, with what was known before it. `nothing`: only `Windows.find` is used."""
    source: str = EVENTS
    """The stream to count: `EVENTS`, or the name of an operator before this one."""

    def __post_init__(self) -> None:
        if not self.name or not self.keys or not self.sizes:
            raise ConfigError(f"name, keys and sizes must not be empty, got {self}")
        check_measures(self.measures)
        hop = self.every_ms
        for size in self.sizes_ms:
            if size % hop:
                raise ConfigError(
                    f"sizes = {self.sizes} must be multiples of every = {self.every or self.sizes}"
                )
        if len(set(self.sizes_ms)) < len(self.sizes):
            raise ConfigError(f"sizes must differ, got {self.sizes}")

    @property
    def sizes_ms(self) -> tuple[int, ...]:
        """The sizes in ms, in their order."""
        return tuple(milliseconds(size, "sizes") for size in self.sizes)

    @property
    def every_ms(self) -> int:
        """The length of a pane in ms."""
        return min(self.sizes_ms) if self.every is None else milliseconds(self.every, "every")


class Windows(Operator):
    """Counts by key and pane, see `WindowConfig`. Not thread-safe.

    Rows of windows: the key columns, ``window_end`` (int64 ms; the window of a size ended there),
    each measure for each size as ``NAME_SIZE``, and ``sequence``, which numbers all rows that this
    operator ever gave: a sink that has seen a number has seen the row. There is one for each key
    with an event in the longest window.

    Rows of features: the events with the measures' columns.
    """

    def __init__(self, config: WindowConfig) -> None:
        self._config = config
        self.name = config.name
        self.source = config.source
        self._hop = config.every_ms
        self._by_length = np.argsort(config.sizes_ms)
        self._lengths = np.sort(np.array(config.sizes_ms, np.int64)) // self._hop
        self._store = self._new_store()
        self._key_columns: list[pa.Table] = []
        self._held: list[tuple[pa.Table, np.ndarray]] = []
        self._panes = np.empty(0, np.int64)  # those that any key has: distinct, rising
        self._closed = BEGIN  # the pane up to which windows were given, or kept for
        self._sequence = 0
        self._too_old = 0

    @property
    def config(self) -> Mapping[str, Any]:
        """See `Operator.config`."""
        kinds = [type(measure).__name__ for measure in self._config.measures]
        return {**to_mapping(self._config), "kinds": kinds}

    def add(self, events: pa.Table, times: np.ndarray) -> None:
        """Count events. Those of windows that are over are left out and told in `status`."""
        panes = times // self._hop
        if self._closed > BEGIN and (old := panes < self._closed).any():
            self._too_old += int(old.sum())
            kept = ~old
            events, times, panes = events.filter(pa.array(kept)), times[kept], panes[kept]
        if not events.num_rows:
            return
        if self._config.give == "features":
            self._held.append((events, times))
        if self._config.give != "windows":
            known = _has_keys(events, self._config.keys)
            if not known.all():  # nobody's events: they count for none of the others
                events, panes = events.filter(pa.array(known)), panes[known]
        keys = key_hashes(events, self._config.keys)
        new = self._store.add(keys, panes, values_of(self._config.measures, events))
        self._panes = np.union1d(self._panes, _distinct(panes))
        if len(new) and self._config.give == "windows":
            self._key_columns.append(events.select(list(self._config.keys)).take(pa.array(new)))

    def find(self, keys: np.ndarray, times: np.ndarray) -> dict[str, pa.Array]:
        """Return each measure for each size as of `times`: what is known now of earlier panes.

        The window of a size is the run of panes that ends with the one before the pane of the time,
        so an event sees neither itself, nor what came in its own pane, nor what is later. Times
        more than `sizes` below the watermark find less than there was.

        Args:
            keys: uint64 ``(n,)``, see `key_hashes`.
            times: int64 ``(n,)``, ms.
        """
        until = np.asarray(times, np.int64) // self._hop
        return self._columns(self._store.find(keys, until, self._lengths))

    def advance(self, watermark: int) -> pa.Table | None:
        """Give what is settled by `watermark`, and forget what no window needs any more."""
        if watermark == BEGIN:
            return None
        give = self._config.give
        rows = self._release(watermark) if give == "features" else None
        pane = END if watermark == END else watermark // self._hop
        if pane <= self._closed:
            return rows
        if give == "windows":
            rows = self._windows(pane)
        self._forget(pane)
        self._closed = pane
        return rows

    def state(self) -> dict[str, pa.Table]:
        """See `Operator.state`."""
        counts, panes, sums = self._store.flat()
        tables = {
            "keys": pa.table({"key": self._store.keys.copy(), "panes": counts}),
            "panes": pa.table(
                {"pane": panes, **{f"sum_{j}": sums[:, j].copy() for j in range(sums.shape[1])}}
            ),
            "progress": pa.table(
                {
                    "closed": [self._closed],
                    "sequence": [self._sequence],
                    "too_old": [self._too_old],
                }
            ),
        }
        if self._key_columns:
            self._key_columns = [pa.concat_tables(self._key_columns).combine_chunks()]
            tables["key_columns"] = self._key_columns[0]
        if self._held:
            tables["held"] = pa.concat_tables([events for events, _ in self._held])
            tables["held_times"] = pa.table(
                {"time": np.concatenate([times for _, times in self._held])}
            )
        return tables

    def restore(self, tables: Mapping[str, pa.Table]) -> None:
        """See `Operator.restore`."""
        keys, panes = tables["keys"], tables["panes"]
        sums = np.column_stack([column.to_numpy() for column in panes.columns[1:]])
        self._store = PaneStore.of_flat(
            keys["key"].to_numpy(), keys["panes"].to_numpy(), panes["pane"].to_numpy(), sums
        )
        self._key_columns = [tables["key_columns"]] if "key_columns" in tables else []
        self._held = []
        if "held" in tables:
            self._held = [(tables["held"], tables["held_times"]["time"].to_numpy())]
        self._panes = np.unique(panes["pane"].to_numpy())
        progress = tables["progress"].to_pylist()[0]
        self._closed, self._sequence = progress["closed"], progress["sequence"]
        self._too_old = progress["too_old"]

    def status(self) -> dict[str, Any]:
        """Keys and panes in memory, rows given, events that came after their windows were over."""
        return {
            "keys": self._store.num_keys,
            "panes": self._store.num_panes,
            "held": sum(events.num_rows for events, _ in self._held),
            "too_old": self._too_old,
        }

    def _new_store(self) -> PaneStore:
        return PaneStore(sum(not isinstance(m, Ratio) for m in self._config.measures))

    def _columns(self, sums: np.ndarray) -> dict[str, pa.Array]:
        """Return the columns of sums ``(n, sizes by length, m)``, in the order of the settings."""
        columns: dict[str, pa.Array] = {}
        places = np.argsort(self._by_length).tolist()
        for size, place in zip(self._config.sizes, places, strict=True):
            columns |= measured(self._config.measures, sums[:, place], f"_{size}")
        return columns

    def _windows(self, pane: int) -> pa.Table | None:
        """Return the rows of the windows that end after those given before, up to `pane`."""
        ends = self._ends(pane)
        parts = [part for part in map(self._window, ends.tolist()) if part is not None]
        return pa.concat_tables(parts) if parts else None

    def _ends(self, pane: int) -> np.ndarray:
        """Return the panes before which a window with events ends, not given before: rising."""
        longest = int(self._lengths[-1])
        first = np.maximum(self._panes + 1, self._closed + 1)
        last = np.minimum(self._panes + longest, pane)
        # Each pane is in the windows that end at first … last: leave out what those before cover.
        covered = np.maximum.accumulate(np.concatenate([[BEGIN], last]))[:-1]
        first = np.maximum(first, covered + 1)
        some = [np.arange(a, b + 1) for a, b in zip(first, last, strict=True) if a <= b]
        return np.concatenate([*some, np.empty(0, np.int64)]).astype(np.int64)

    def _window(self, end: int) -> pa.Table | None:
        numbers, sums = self._store.window(end, self._lengths)
        if not len(numbers):
            return None
        order = np.argsort(self._store.keys[numbers])  # the same, however the keys came
        numbers, sums = numbers[order], sums[order]
        if len(self._key_columns) > 1:
            self._key_columns = [pa.concat_tables(self._key_columns).combine_chunks()]
        table = self._key_columns[0].take(pa.array(numbers))
        columns = {name: table[name] for name in self._config.keys}
        columns["window_end"] = pa.array(np.full(len(numbers), end * self._hop))
        columns |= self._columns(sums)
        columns["sequence"] = pa.array(self._sequence + np.arange(len(numbers)))
        self._sequence += len(numbers)
        return pa.table(columns)

    def _release(self, watermark: int) -> pa.Table | None:
        """Return the held events before whose panes nothing can come any more, with features."""
        if not self._held:
            return None
        times = np.concatenate([times for _, times in self._held])
        ready = times // self._hop * self._hop <= watermark
        if not ready.any():
            return None
        events = pa.concat_tables([events for events, _ in self._held])
        waiting = ~ready
        self._held = [(events.filter(pa.array(waiting)), times[waiting])] if waiting.any() else []
        return self._described(events.filter(pa.array(ready)), times[ready])

    def _described(self, events: pa.Table, times: np.ndarray) -> pa.Table:
        columns = self.find(_asked(events, self._config.keys), times)
        for name, column in columns.items():
            events = events.append_column(name, column)
        return events

    def _forget(self, pane: int) -> None:
        """Drop panes before the longest window that ends at `pane`, once it is worth a pass."""
        longest = int(self._lengths[-1])
        spare = longest // 8 if pane < END else 0
        if not len(self._panes) or self._panes[0] >= pane - longest - spare:
            return
        first = pane - longest
        kept = self._store.compact(first)
        self._panes = self._panes[self._panes >= first]
        if self._key_columns:
            table = pa.concat_tables(self._key_columns)
            self._key_columns = [table.take(pa.array(kept)).combine_chunks()]


def _distinct(panes: np.ndarray) -> np.ndarray:
    """Return the distinct panes, rising, without sorting where they lie close together."""
    low, high = int(panes.min()), int(panes.max())
    if high - low > 4 * len(panes):
        return np.unique(panes)
    return np.flatnonzero(np.bincount(panes - low)) + low


def _has_keys(events: pa.Table, columns: tuple[str, ...]) -> np.ndarray:
    """Return which events have all of the key: a missing one equals no other."""
    known = np.ones(events.num_rows, np.bool_)
    for name in columns:
        if name in events.column_names and events[name].null_count:
            known &= events[name].is_valid().to_numpy()
    return known


def _asked(events: pa.Table, columns: tuple[str, ...]) -> np.ndarray:
    """Return the keys to look up: those of `key_hashes`, nobody's where one is missing."""
    return np.where(_has_keys(events, columns), key_hashes(events, columns), _NOBODY)


def key_hashes(events: pa.Table, columns: tuple[str, ...]) -> np.ndarray:
    """Return the 64-bit key of each event by some columns, see `weiml.hashing`: uint64 ``(n,)``.

    Raises:
        DataError: a column is missing or has no ids.
    """
    keys: np.ndarray | None = None
    for name in columns:
        if name not in events.column_names:
            raise DataError(f"there is no key column {name!r}{nearest(name, events.column_names)}")
        hashed = hash_values(name, events[name])
        keys = hashed if keys is None else cross_keys(keys, hashed)
    assert keys is not None
    return keys


def window_features(events: pa.Table, times: np.ndarray, config: WindowConfig) -> pa.Table:
    """Return whole events, in any order, with what was known strictly before each: the offline job.

    A stream with ``give="features"`` gives each event the same columns, late events aside.

    Args:
        events: n events with the columns that `config` names.
        times: int64 ``(n,)``, ms.
        config: `give` and `source` do not matter.
    """
    order = np.argsort(times, kind="stable")
    windows = Windows(replace(config, give="nothing"))
    parts = []
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        some, at = events.take(pa.array(rows)), times[rows]
        windows.advance(int(at[0]))
        windows.add(some, at)
        parts.append(pa.table(windows.find(_asked(some, config.keys), at)))
    if not parts:
        parts = [pa.table(windows.find(np.empty(0, np.uint64), np.empty(0, np.int64)))]
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    features = pa.concat_tables(parts).take(pa.array(back))
    for name in features.column_names:
        events = events.append_column(name, features[name])
    return events
