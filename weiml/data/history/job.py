"""The offline job on Ray Data: events joined with profiles and with what was known before each.

Equal, row by row, to what the feature view gives online.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.history.profiles import Profiles, time_columns
from weiml.data.history.state import HistoryConfig, HistoryState
from weiml.errors import DataError

__all__ = ["cut_blocks", "describe_events"]


def describe_events(
    events: pa.Table,
    users: Profiles,
    items: Profiles,
    config: HistoryConfig,
    *,
    num_blocks: int,
) -> pa.Table:
    """Return events with profiles, label, time and history columns, in the order given.

    Profiles are small and go along with each block; histories need all events of a key in one
    place, so rows are partitioned by user, then by item. Ray must be initialised.

    Args:
        events: ``user_id``, ``item_id``, ``rating``, ``timestamp``; any order.
        users: profiles by user_id.
        items: profiles by item_id; among their columns is ``genres``, a list of strings.
        config: what counts as positive, and the priors of the rates.
        num_blocks: how many partitions; about two a core, more for data larger than memory.

    Raises:
        DataError: a column is missing, or rows were lost or torn apart on the way.
    """
    import ray.data

    n = events.num_rows
    numbered = events.append_column("row", pa.array(np.arange(n)))
    data = ray.data.from_arrow(cut_blocks(numbered, num_blocks))
    for function, key in (
        (partial(_describe, users, items, config.threshold), None),
        (partial(_history, config, ("user", "user_genre"), "user_id"), "user_id"),
        (partial(_history, config, ("item",), "item_id"), "item_id"),
    ):
        if key is not None:
            data = data.repartition(num_blocks, keys=[key])
        data = data.map_batches(function, batch_format="pyarrow", batch_size=None)
    tables = [table for table in ray.get(data.to_arrow_refs()) if table.num_rows]
    table = pa.concat_tables(tables).sort_by("row").combine_chunks()
    if not np.array_equal(table["row"].to_numpy(), np.arange(n)):
        raise DataError(f"the history stage returned {table.num_rows} rows for {n} events")
    for key in ("user_id", "item_id"):
        _check_whole(table, key, num_blocks)
    return table.drop_columns(["row", "user_id_block", "item_id_block"])


def _describe(users: Profiles, items: Profiles, threshold: float, events: pa.Table) -> pa.Table:
    """Join both profiles; add the label and the time's columns."""
    described = items.join(users.join(events))
    label = pc.greater_equal(events["rating"], threshold).cast(pa.float32())
    for name, column in {"label": label, **time_columns(events["timestamp"])}.items():
        described = described.append_column(name, column)
    return described


def _history(config: HistoryConfig, of: Sequence[str], key: str, events: pa.Table) -> pa.Table:
    """Add the histories of entities all of whose events are in this block."""
    if events.num_rows == 0:
        return events
    for name, column in HistoryState(config).columns(events, events=True, of=of).items():
        events = events.append_column(name, column)
    home = pa.array(np.full(events.num_rows, events["row"][0].as_py()))
    return events.append_column(f"{key}_block", home)


def _check_whole(table: pa.Table, key: str, num_blocks: int) -> None:
    """Make sure that no key's events were spread over several blocks, which saw only a part."""
    places = table.group_by(key).aggregate([(f"{key}_block", "count_distinct")])
    if pc.max(places[f"{key}_block_count_distinct"]).as_py() != 1:
        raise DataError(
            f"events of one {key} came in several blocks of num_blocks={num_blocks}: a partition "
            "was larger than Ray Data's target_max_block_size; raise the node's num_blocks"
        )


def cut_blocks(table: pa.Table, num_blocks: int) -> list[pa.Table]:
    """Cut a table into at most `num_blocks` pieces of nearly equal length, at least one."""
    size = max(1, -(-table.num_rows // num_blocks))
    return [table.slice(at, size) for at in range(0, table.num_rows, size)] or [table]
