from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.data import (
    FeatureView,
    HistoryConfig,
    HistoryState,
    Profiles,
    SyntheticConfig,
    cut_blocks,
    describe_events,
    generate_feed,
)
from weiml.data.history.job import _check_whole
from weiml.errors import DataError


def direct(feed: dict[str, pa.Table], config: HistoryConfig) -> tuple[FeatureView, pa.Table]:
    users, items = Profiles(feed["users"], "user_id"), Profiles(feed["items"], "item_id")
    view = FeatureView(users, items, HistoryState(config))
    return view, view.examples(feed["ratings"])


def test_the_job_on_ray_is_the_direct_computation(ray_session: None) -> None:
    # Fewer users than blocks, so that at least one block of the partition by user is empty.
    feed = generate_feed(SyntheticConfig(events=1000, users=2, items=70))
    config = HistoryConfig(strength=4.0)
    view, expected = direct(feed, config)
    table = describe_events(feed["ratings"], view.users, view.items, config, num_blocks=3)
    assert set(table.column_names) == {*expected.column_names, "label"}
    for name in expected.column_names:
        assert table[name].combine_chunks().equals(expected[name].combine_chunks()), name
    positive = [rating >= 4 for rating in table["rating"].to_pylist()]
    assert table["label"].to_pylist() == positive


def test_blocks_cover_the_table_once() -> None:
    table = pa.table({"n": list(range(10))})
    for num_blocks in (1, 3, 4, 20):
        blocks = cut_blocks(table, num_blocks)
        assert len(blocks) <= num_blocks
        assert pa.concat_tables(blocks).combine_chunks().equals(table)
    assert [block.num_rows for block in cut_blocks(table.slice(0, 0), 3)] == [0]


def test_a_key_that_was_torn_apart_is_noticed() -> None:
    whole = pa.table({"user_id": [1, 1, 2], "user_id_block": [0, 0, 2]})
    torn = pa.table({"user_id": [1, 1, 2], "user_id_block": [0, 1, 1]})
    _check_whole(whole, "user_id", 2)
    with pytest.raises(DataError, match="num_blocks=2"):
        _check_whole(torn, "user_id", 2)
