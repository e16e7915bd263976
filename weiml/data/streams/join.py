"""Labels for impressions: a click within W of an impression makes it positive.

Both come in one stream. A click belongs to the latest impression with its key at or before it, and
counts if that lies at most W back: label = 1 iff there is a click c with
``impression <= c <= impression + W`` and no later impression of the key at or before c. Among
impressions of the same time it is the one that came last. An impression is given once, when no
click for it can come any more. Rows whose key holds a null match nothing: such an impression has
label 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest, to_mapping
from weiml.data.durations import milliseconds
from weiml.data.streams.operators import EVENTS, Operator
from weiml.data.streams.watermark import BEGIN, END
from weiml.data.streams.windows import key_hashes
from weiml.errors import ConfigError, DataError

__all__ = ["LabelJoin", "LabelJoinConfig"]

_NO_KEY = np.uint64(0)  # no click has this key, see weiml.hashing
_STEPS = 16  # the state is gone through so many times in the time that a click may take


@dataclass(frozen=True, kw_only=True)
class LabelJoinConfig:
    """Which events are impressions and clicks, what joins them, and for how long."""

    name: str = "labelled"
    """Of the operator and of the stream that it gives."""
    keys: tuple[str, ...]
    """The join key: columns of strings, integers or booleans that both kinds of event have."""
    wait: str = "30m"
    """W: the longest from an impression to its click."""
    kind: str = "event"
    """The column that tells impressions from clicks."""
    impression: str = "impression"
    """Its value in impressions."""
    click: str = "click"
    """Its value in clicks; events with any other value are passed over."""
    source: str = EVENTS
    """The stream to read."""

    def __post_init__(self) -> None:
        if not self.name or not self.keys:
            raise ConfigError(f"name and keys must not be empty, got {self}")
        if self.impression == self.click:
            raise ConfigError(f"impression and click must differ, both are {self.click!r}")
        milliseconds(self.wait, "wait")


class LabelJoin(Operator):
    """Holds impressions until their clicks have come, see this module. Not thread-safe.

    Rows: all columns of the impressions, ``label`` (int8, 0 or 1), ``delay_ms`` (int64, from the
    impression to its first click, null without one) and ``clicks`` (int32).
    """

    def __init__(self, config: LabelJoinConfig) -> None:
        self._config = config
        self.name = config.name
        self.source = config.source
        self._wait = milliseconds(config.wait, "wait")
        self._impressions: list[pa.Table] = []
        self._shown = _Marks()
        self._clicked = _Marks()
        self._clicks = np.empty(0, np.int64)
        self._delays = np.empty(0, np.int64)
        self._done = BEGIN
        self._unmatched = 0
        self._without_key = 0

    @property
    def config(self) -> Mapping[str, Any]:
        """See `Operator.config`."""
        return to_mapping(self._config)

    @property
    def delay_ms(self) -> int:
        """See `Operator.delay_ms`."""
        return self._wait + self._step + 1

    @property
    def _step(self) -> int:
        return self._wait // _STEPS

    def add(self, events: pa.Table, times: np.ndarray) -> None:
        """Take in impressions and clicks."""
        if self._config.kind not in events.column_names:
            raise DataError(
                f"there is no column {self._config.kind!r}"
                f"{nearest(self._config.kind, events.column_names)}"
            )
        kinds = events[self._config.kind]
        keys = key_hashes(events, self._config.keys)
        shown = _equal(kinds, self._config.impression)
        clicked = _equal(kinds, self._config.click)
        missing = _missing(events, self._config.keys)
        if missing.any():
            self._without_key += int((missing & (shown | clicked)).sum())
            keys[missing] = _NO_KEY
            clicked &= ~missing
        if shown.any():
            self._impressions.append(events.filter(pa.array(shown)))
            self._shown.add(keys[shown], times[shown])
            more = np.zeros(int(shown.sum()), np.int64)
            self._clicks = np.concatenate([self._clicks, more])
            self._delays = np.concatenate([self._delays, more])
        self._clicked.add(keys[clicked], times[clicked])

    def advance(self, watermark: int) -> pa.Table | None:
        """Give the impressions that are settled, with their labels; once every W/16 or so."""
        if watermark < END and (watermark == BEGIN or watermark - self._done < self._step):
            return None
        self._done = watermark
        self._attribute(watermark)
        times = self._shown.times
        settled = times < watermark - self._wait
        if not settled.any():
            return None
        held = pa.concat_tables(self._impressions)
        rows = self._labelled(held.filter(pa.array(settled)), settled)
        waiting = ~settled
        self._impressions = [held.filter(pa.array(waiting))] if waiting.any() else []
        self._shown.keep(waiting)
        self._clicks, self._delays = self._clicks[waiting], self._delays[waiting]
        return rows

    def state(self) -> dict[str, pa.Table]:
        """See `Operator.state`."""
        tables = {
            "shown": self._shown.table()
            .append_column("clicks", pa.array(self._clicks.copy()))
            .append_column("delay", pa.array(self._delays.copy())),
            "clicked": self._clicked.table(),
            "progress": pa.table(
                {
                    "done": [self._done],
                    "unmatched": [self._unmatched],
                    "without_key": [self._without_key],
                }
            ),
        }
        if self._impressions:
            tables["impressions"] = pa.concat_tables(self._impressions)
        return tables

    def restore(self, tables: Mapping[str, pa.Table]) -> None:
        """See `Operator.restore`."""
        shown = tables["shown"]
        self._impressions = [tables["impressions"]] if "impressions" in tables else []
        self._shown, self._clicked = _Marks.of(shown), _Marks.of(tables["clicked"])
        self._clicks = shown["clicks"].to_numpy().copy()  # written to
        self._delays = shown["delay"].to_numpy().copy()
        progress = tables["progress"].to_pylist()[0]
        self._done, self._unmatched = progress["done"], progress["unmatched"]
        self._without_key = progress["without_key"]

    def status(self) -> dict[str, Any]:
        """Impressions and clicks that wait; clicks without one before; events without a key."""
        return {
            "impressions": len(self._shown.keys),
            "clicks": len(self._clicked.keys),
            "late_clicks": self._unmatched,
            "without_key": self._without_key,
        }

    def _attribute(self, watermark: int) -> None:
        """Give each click before the watermark to its impression, all of which have come."""
        ready = self._clicked.times < watermark
        if not ready.any():
            return
        order = np.lexsort((self._shown.times, self._shown.keys))  # stable: ties as they came
        clicks = self._clicked
        at = np.flatnonzero(ready)
        at = at[np.lexsort((clicks.times[at], clicks.keys[at]))]
        matched = _attribute(
            order, self._shown.keys, self._shown.times, clicks.keys[at], clicks.times[at],
            self._wait, self._clicks, self._delays,
        )  # fmt: skip
        self._unmatched += len(at) - matched
        clicks.keep(~ready)

    def _labelled(self, rows: pa.Table, settled: np.ndarray) -> pa.Table:
        clicks, delays = self._clicks[settled], self._delays[settled]
        rows = rows.append_column("label", pa.array((clicks > 0).astype(np.int8)))
        rows = rows.append_column("delay_ms", pa.array(delays, mask=clicks == 0))
        return rows.append_column("clicks", pa.array(clicks.astype(np.int32)))


class _Marks:
    """Keys (uint64) and times (int64 ms) of events, as they came."""

    def __init__(self) -> None:
        self.keys = np.empty(0, np.uint64)
        self.times = np.empty(0, np.int64)

    def add(self, keys: np.ndarray, times: np.ndarray) -> None:
        self.keys = np.concatenate([self.keys, keys])
        self.times = np.concatenate([self.times, times])

    def keep(self, which: np.ndarray) -> None:
        self.keys, self.times = self.keys[which], self.times[which]

    def table(self) -> pa.Table:
        return pa.table({"key": self.keys, "time": self.times})

    @classmethod
    def of(cls, table: pa.Table) -> _Marks:
        marks = cls()
        marks.add(table["key"].to_numpy(), table["time"].to_numpy())
        return marks


def _missing(events: pa.Table, columns: tuple[str, ...]) -> np.ndarray:
    """Return which events have no value in one of the columns."""
    missing = np.zeros(events.num_rows, np.bool_)
    for name in columns:
        if events[name].null_count:
            missing |= events[name].is_null().to_numpy()
    return missing


def _equal(column: pa.ChunkedArray, value: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.equal(column, value), False).to_numpy())


@numba.njit(nogil=True, cache=True)
def _attribute(
    order: np.ndarray,
    shown_keys: np.ndarray,
    shown_times: np.ndarray,
    keys: np.ndarray,
    times: np.ndarray,
    wait: int,
    clicks: np.ndarray,
    delays: np.ndarray,
) -> int:
    """Merge clicks, sorted by key and time, into impressions in `order`; return how many match."""
    matched = 0
    at = 0  # the first impression that lies after the click
    for i in range(keys.size):
        while at < order.size:
            row = order[at]
            if shown_keys[row] > keys[i]:
                break
            if shown_keys[row] == keys[i] and shown_times[row] > times[i]:
                break
            at += 1
        if at == 0:
            continue
        row = order[at - 1]
        delay = times[i] - shown_times[row]
        if shown_keys[row] == keys[i] and delay <= wait:
            if clicks[row] == 0 or delay < delays[row]:
                delays[row] = delay
            clicks[row] += 1
            matched += 1
    return matched
