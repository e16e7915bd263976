"""History features: what was known of a user, an item and a user's taste strictly before an event.

Only events with an earlier time count; those of the same second do not, whoever caused them. The
same code serves the offline job (an empty state, all events at once) and serving (a state that
follows the stream), so both give the same numbers. Knows nothing of profiles or of Ray.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather

from weiml.config import from_mapping, nearest, to_mapping
from weiml.errors import ConfigError, DataError
from weiml.hashing import cross_keys, hash_values

__all__ = ["Counters", "HistoryConfig", "HistoryState", "prefix_counts", "prefix_sums"]

_KINDS = {"user": ("user",), "item": ("item",), "user_genre": ("user_genre",)}
_NEEDED = ("user_id", "item_id", "genres", "timestamp")


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """How counts become rates: ``(positives + strength * prior) / (count + strength)``."""

    threshold: float = 4.0  # an event is positive from this rating on
    strength: float = 10.0  # how many events the prior is worth
    prior_rate: float = 0.5  # share of positive events assumed without any history
    prior_mean: float = 3.5  # mean rating assumed without any history

    def __post_init__(self) -> None:
        if self.strength <= 0:
            raise ConfigError(f"strength must be above 0, got {self.strength}")
        if not 0 <= self.prior_rate <= 1:
            raise ConfigError(f"prior_rate must lie in 0 … 1, got {self.prior_rate}")


def prefix_counts(
    keys: np.ndarray, times: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each event, how many earlier events its key had and the sum of their labels.

    Args:
        keys: ``(n,)`` uint64.
        times: ``(n,)`` int64, any order; events of the same key and time do not see each other.
        labels: ``(n,)`` float32.

    Returns:
        ``(count, positives)``: int64 and float64, both ``(n,)``, in the order of the input.
    """
    counts, sums = prefix_sums(keys, times, labels.reshape(-1, 1))
    return counts, sums[:, 0]


def prefix_sums(
    keys: np.ndarray, times: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return count and sums over each key's strictly earlier rows; see `prefix_counts`.

    Args:
        keys: ``(n,)`` uint64.
        times: ``(n,)`` int64.
        values: ``(n, m)`` numbers to sum.
        weights: ``(n,)`` bool, False for rows that only ask and are not events; all are by default.

    Returns:
        ``(counts, sums)``: int64 ``(n,)`` and float64 ``(n, m)``.
    """
    if weights is None:
        weights = np.ones(keys.size, dtype=np.bool_)
    order = np.lexsort((times, keys))
    values = np.ascontiguousarray(values, np.float64)
    counts, sums = _prefix(order, keys, np.asarray(times, np.int64), values, weights)
    return counts, sums


@numba.njit(nogil=True, cache=True)
def _prefix(
    order: np.ndarray, keys: np.ndarray, times: np.ndarray, values: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n, m = values.shape
    counts = np.zeros(n, np.int64)
    sums = np.zeros((n, m), np.float64)
    total = np.zeros(m, np.float64)
    start = 0
    while start < n:  # one turn for each run of equal key and time
        key, time = keys[order[start]], times[order[start]]
        if start == 0 or keys[order[start - 1]] != key:
            count = 0
            total[:] = 0.0
        stop = start
        while stop < n and keys[order[stop]] == key and times[order[stop]] == time:
            counts[order[stop]] = count
            sums[order[stop]] = total
            stop += 1
        for i in range(start, stop):
            if weights[order[i]]:
                count += 1
                total += values[order[i]]
        start = stop
    return counts, sums


class Counters:
    """Counts and sums by key: ``counts (n,)`` int64 and ``sums (n, 2)`` (positives, ratings).

    Keys are kept sorted, so adding costs a pass over all of them: add in batches.
    """

    def __init__(
        self,
        keys: np.ndarray | None = None,
        counts: np.ndarray | None = None,
        sums: np.ndarray | None = None,
    ) -> None:
        self.keys = np.empty(0, np.uint64) if keys is None else keys
        self.counts = np.empty(0, np.int64) if counts is None else counts
        self.sums = np.empty((0, 2), np.float64) if sums is None else sums

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Count an event for each of `keys` ``(n,)``, repeats too, with `values` ``(n, 2)``."""
        unique, inverse = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        old, new = inverse[: len(self.keys)], inverse[len(self.keys) :]
        counts = np.zeros(len(unique), np.int64)
        counts[old] = self.counts
        np.add.at(counts, new, 1)
        sums = np.zeros((len(unique), 2))
        sums[old] = self.sums
        np.add.at(sums, new, values)
        self.keys, self.counts, self.sums = unique, counts, sums

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return counts ``(n,)`` and sums ``(n, 2)`` of `keys`; zeros for keys never seen."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros((len(keys), 2))
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = self.keys[at] == keys
        return np.where(found, self.counts[at], 0), np.where(found[:, None], self.sums[at], 0.0)


class HistoryState:
    """All that history features need to know of the past, up to the last observed event.

    Events of the newest second are held back until a later event or question arrives, so that
    they stay invisible to others of the same second. Not thread-safe: guard `observe`.
    """

    def __init__(self, config: HistoryConfig | None = None) -> None:
        self.config = config or HistoryConfig()
        self.counters = {kind: Counters() for kind in _KINDS}
        self._newest: pa.Table | None = None

    @property
    def num_events(self) -> int:
        """How many events have been observed."""
        newest = 0 if self._newest is None else self._newest.num_rows
        return int(self.counters["user"].counts.sum()) + newest

    def observe(self, events: pa.Table) -> None:
        """Take in events (user_id, item_id, genres, rating, timestamp), in any order within a call.

        An event older than what has been observed before counts for all later questions.

        Raises:
            DataError: a column is missing.
        """
        events = _select(events, (*_NEEDED, "rating"))
        if events.num_rows == 0:
            return
        if self._newest is not None:
            events = pa.concat_tables([self._newest, events], promote_options="permissive")
        newest = pc.equal(events["timestamp"], pc.max(events["timestamp"]))
        self._newest = events.filter(newest)
        settled = events.filter(pc.invert(newest))
        values = self._values(settled)
        for kind, counters in self.counters.items():
            keys, rows = _entity_keys(settled, kind)
            if len(keys):
                counters.add(keys, values[rows])

    def columns(
        self, rows: pa.Table, *, events: bool, of: Sequence[str] = ("user", "item", "user_genre")
    ) -> dict[str, pa.Array]:
        """Return history columns for each of `rows` (user_id, item_id, genres, timestamp).

        Args:
            rows: what to describe; with `events` it also needs rating.
            events: True if the rows are events themselves, each of which the later ones see;
                False if they are candidates, which nobody sees. Neither is taken into the state.
            of: which histories to return; a partition that holds all of a user's events, but not
                all of an item's, asks for "user" and "user_genre" only.

        Returns:
            By name, float32 but for counts (int32): ``user_count``, ``user_rate``, ``user_mean``,
            ``item_…`` likewise, and ``user_genre_count``, ``user_genre_rate``, which pool the
            item's genres.
        """
        columns: dict[str, pa.Array] = {}
        for kind in of:
            if kind not in _KINDS:
                raise DataError(f"unknown kind of history {kind!r}{nearest(kind, _KINDS)}")
            columns |= self._rates(kind, *self._before(kind, rows, events))
        return columns

    def save(self, folder: Path) -> None:
        """Write the state into an existing folder."""
        for kind, counters in self.counters.items():
            table = pa.table(
                {
                    "key": counters.keys,
                    "count": counters.counts,
                    "positives": counters.sums[:, 0],
                    "ratings": counters.sums[:, 1],
                }
            )
            pyarrow.feather.write_feather(table, folder / f"{kind}.arrow")
        if self._newest is not None:
            pyarrow.feather.write_feather(self._newest, folder / "newest.arrow")
        text = json.dumps(to_mapping(self.config), indent=1)
        (folder / "history.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> HistoryState:
        """Read a state written by `save`.

        Raises:
            DataError: a file is missing or damaged.
        """
        try:
            tree = json.loads((folder / "history.json").read_text(encoding="utf-8"))
            state = cls(from_mapping(HistoryConfig, tree, where=str(folder / "history.json")))
            for kind in _KINDS:
                table = pyarrow.feather.read_table(folder / f"{kind}.arrow")
                keys, counts, *sums = (column.to_numpy() for column in table.columns)
                state.counters[kind] = Counters(keys, counts, np.column_stack(sums))
            if (folder / "newest.arrow").exists():
                state._newest = pyarrow.feather.read_table(folder / "newest.arrow")
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} does not hold a history state: {error}") from None
        return state

    def _before(self, kind: str, rows: pa.Table, events: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return counts (n,) and sums (n, 2) of what was strictly before each row."""
        window = _select(rows, (*_NEEDED, "rating") if events else _NEEDED)
        values = self._values(window) if events else np.zeros((window.num_rows, 2))
        held = 0 if self._newest is None else self._newest.num_rows
        if self._newest is not None:
            held_rows = self._newest.select(window.column_names)
            window = pa.concat_tables([held_rows, window], promote_options="permissive")
            values = np.concatenate([self._values(self._newest), values])
        keys, owners = _entity_keys(window, kind)
        times = window["timestamp"].to_numpy()[owners]
        counts, sums = prefix_sums(keys, times, values[owners], (owners < held) | events)
        known_counts, known_sums = self.counters[kind].find(keys)
        counts, sums = counts + known_counts, sums + known_sums
        n = window.num_rows
        pooled = [np.bincount(owners, part, n) for part in (counts, sums[:, 0], sums[:, 1])]
        return pooled[0][held:], np.column_stack(pooled[1:])[held:]

    def _rates(self, kind: str, counts: np.ndarray, sums: np.ndarray) -> dict[str, pa.Array]:
        config, weight = self.config, counts + self.config.strength
        rate = (sums[:, 0] + config.strength * config.prior_rate) / weight
        columns = {
            f"{kind}_count": pa.array(counts.astype(np.int32)),
            f"{kind}_rate": pa.array(rate.astype(np.float32)),
        }
        if kind != "user_genre":
            mean = (sums[:, 1] + config.strength * config.prior_mean) / weight
            columns[f"{kind}_mean"] = pa.array(mean.astype(np.float32))
        return columns

    def _values(self, events: pa.Table) -> np.ndarray:
        rating = events["rating"].to_numpy().astype(np.float64)
        return np.column_stack([(rating >= self.config.threshold).astype(np.float64), rating])


def _entity_keys(table: pa.Table, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return keys (m,) of the rows' entities and the row (m,) that each belongs to."""
    rows = np.arange(table.num_rows)
    if kind == "item":
        return hash_values("item_id", table["item_id"]), rows
    users = hash_values("user_id", table["user_id"])
    if kind == "user":
        return users, rows
    lengths = pc.fill_null(pc.list_value_length(table["genres"]), 0).to_numpy()
    rows = np.repeat(rows, lengths)
    return cross_keys(users[rows], hash_values("genres", pc.list_flatten(table["genres"]))), rows


def _select(table: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in names:
        if name not in table.column_names:
            raise DataError(
                f"history needs a column {name!r}{nearest(name, table.column_names)}; "
                f"got {', '.join(table.column_names)}"
            )
    return table.select(list(names))
