"""The feature view: the raw feature columns of candidates, online, equal to the offline job's.

It joins user and item profiles, the history state and the time. Knows nothing of encoding.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weiml.data.history.profiles import Profiles, time_columns
from weiml.data.history.state import HistoryState
from weiml.errors import DataError

__all__ = ["FeatureView"]


class FeatureView:
    """What serving knows of users and items. Thread-safe.

    Example:
        >>> from weiml.data.datasets.synthetic import SyntheticConfig, generate_feed
        >>> data = generate_feed(SyntheticConfig(events=50, users=5, items=9))
        >>> view = FeatureView(Profiles(data["users"], "user_id"),
        ...                    Profiles(data["items"], "item_id"), HistoryState())
        >>> view.observe(data["ratings"])
        >>> view.rows(3, [1, 2, 9], timestamp=900_000_000).num_rows
        3
    """

    def __init__(self, users: Profiles, items: Profiles, history: HistoryState) -> None:
        self.users = users
        self.items = items
        self.history = history
        self._lock = threading.Lock()

    def rows(self, user_id: Any, item_ids: Sequence[Any] | pa.Array, timestamp: int) -> pa.Table:
        """Return the raw feature columns of N candidate items for one user at one time.

        Users and items without a profile get nulls and no history; that is no error.

        Args:
            user_id: of the profiles' type.
            item_ids: N ids, of the profiles' type.
            timestamp: seconds; only events before it count.

        Raises:
            DataError: an id is not of the profiles' type.
        """
        n = len(item_ids)
        rows = pa.table(
            {
                self.users.on: _ids([user_id] * n, self.users),
                self.items.on: _ids(item_ids, self.items),
                "timestamp": pa.array([timestamp] * n, pa.int64()),
            }
        )
        return self._describe(rows, events=False)

    def examples(self, events: pa.Table) -> pa.Table:
        """Return `events` (user_id, item_id, rating, timestamp, …) with their feature columns.

        Each sees the events before it, those of this table included. Nothing is observed: call
        `observe` next to go on.
        """
        return self._describe(events, events=True)

    def observe(self, events: pa.Table) -> None:
        """Take in events (user_id, item_id, rating, timestamp) that have happened.

        Raises:
            DataError: a column is missing.
        """
        columns = [self.users.on, self.items.on, "rating", "timestamp"]
        missing = [name for name in columns if name not in events.column_names]
        if missing:
            raise DataError(f"events to observe have no column {missing[0]!r}")
        genres = self.items.find(events[self.items.on])["genres"]
        with self._lock:
            self.history.observe(events.select(columns).append_column("genres", genres))

    def save(self, folder: str | Path) -> None:
        """Write the view to a new folder, whole or not at all.

        Raises:
            DataError: the folder exists and is not empty.
        """
        target = Path(folder)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
        aside.mkdir(parents=True)
        try:
            pq.write_table(self.users.table, aside / "users.parquet")
            pq.write_table(self.items.table, aside / "items.parquet")
            with self._lock:
                self.history.save(aside)
            os.rename(aside, target)
        except OSError as error:
            raise DataError(f"cannot write the feature view to {target}: {error}") from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> FeatureView:
        """Read a view written by `save`.

        Raises:
            DataError: a file is missing or damaged.
        """
        source = Path(folder)
        try:
            users = Profiles(pq.read_table(source / "users.parquet"), "user_id")
            items = Profiles(pq.read_table(source / "items.parquet"), "item_id")
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{source} does not hold a feature view: {error}") from None
        return cls(users, items, HistoryState.load(source))

    def _describe(self, rows: pa.Table, *, events: bool) -> pa.Table:
        described = self.items.join(self.users.join(rows))
        with self._lock:
            columns = self.history.columns(described, events=events)
        for name, column in (columns | time_columns(rows["timestamp"])).items():
            described = described.append_column(name, column)
        return described


def _ids(values: Any, profiles: Profiles) -> pa.Array:
    kind = profiles.table.schema.field(profiles.on).type
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise DataError(f"{profiles.on} must hold {kind}: {error}") from None
