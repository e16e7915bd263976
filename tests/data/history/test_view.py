from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from weiml.data import (
    FeatureView,
    HistoryConfig,
    HistoryState,
    Profiles,
    SyntheticConfig,
    default_cache_dir,
    fetch,
    generate_feed,
)
from weiml.errors import DataError

FEED = generate_feed(SyntheticConfig(events=3000, users=60, items=80, seed=3))


def new_view(feed: dict[str, pa.Table] = FEED) -> FeatureView:
    return FeatureView(
        Profiles(feed["users"], "user_id"),
        Profiles(feed["items"], "item_id"),
        HistoryState(HistoryConfig(strength=5.0)),
    )


def assert_online_equals_offline(feed: dict[str, pa.Table], start: int, stop: int) -> None:
    """Walk the stream event by event; each online row must be the offline row."""
    ratings = feed["ratings"]
    offline = new_view(feed).examples(ratings)
    view = new_view(feed)
    view.observe(ratings.slice(0, start))
    for i, event in enumerate(ratings.slice(start, stop - start).to_pylist(), start):
        online = view.rows(event["user_id"], [event["item_id"]], event["timestamp"])
        assert online.equals(offline.slice(i, 1).select(online.column_names)), event
        view.observe(ratings.slice(i, 1))


def test_each_online_row_is_the_offline_row() -> None:
    assert_online_equals_offline(FEED, 0, 400)
    assert_online_equals_offline(FEED, 2700, 3000)


def test_each_online_row_is_the_offline_row_on_movielens_where_it_is_cached() -> None:
    folder = default_cache_dir() / "datasets" / "movielens-100k"
    if not folder.exists():
        pytest.skip("movielens-100k is not in the cache; `weiml data fetch movielens-100k` puts it")
    import pyarrow.parquet as pq

    fetch("movielens-100k")  # checks the digests
    feed = {
        name: pq.read_table(folder / f"{name}.parquet") for name in ("ratings", "users", "items")
    }
    assert_online_equals_offline(feed, 90_000, 90_500)


def test_candidates_differ_in_the_item_only() -> None:
    view = new_view()
    view.observe(FEED["ratings"])
    rows = view.rows(7, [3, 1, 3], 2_000_000_000)
    assert rows.num_rows == 3
    assert rows.slice(0, 1).equals(rows.slice(2, 1))
    assert len(set(rows["user_mean"].to_pylist())) == 1
    assert len(set(rows["item_mean"].to_pylist())) == 2


def test_examples_in_pieces_are_the_examples_at_once() -> None:
    whole = new_view().examples(FEED["ratings"])
    view, pieces = new_view(), []
    for start in range(0, 3000, 170):
        piece = FEED["ratings"].slice(start, 170)
        pieces.append(view.examples(piece))
        view.observe(piece)
    assert pa.concat_tables(pieces).combine_chunks().equals(whole.combine_chunks())


def test_strangers_have_no_profile_and_no_history() -> None:
    view = new_view()
    view.observe(FEED["ratings"])
    rows = view.rows(999_999, [888_888, 1], 2_000_000_000).to_pylist()
    assert rows[0]["age"] is None
    assert rows[0]["title"] is None
    assert rows[0]["user_count"] == rows[0]["item_count"] == rows[0]["user_genre_count"] == 0
    assert rows[0]["item_rate"] == pytest.approx(0.5)
    assert rows[1]["item_count"] > 0


def test_no_candidates_give_no_rows() -> None:
    rows = new_view().rows(1, [], 0)
    assert rows.num_rows == 0
    assert "user_genre_rate" in rows.column_names


def test_ids_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(DataError, match=r"item_id must hold int32"):
        new_view().rows(1, ["toy story"], 0)


def test_events_without_a_column_are_refused() -> None:
    with pytest.raises(DataError, match="rating"):
        new_view().observe(FEED["ratings"].drop_columns(["rating"]))


def test_saving_keeps_everything(tmp_path: Path) -> None:
    view = new_view()
    view.observe(FEED["ratings"].slice(0, 2000))
    (tmp_path / "view").mkdir()  # an empty folder is fine
    view.save(tmp_path / "view")
    loaded = FeatureView.load(tmp_path / "view")
    for view_now in (view, loaded):
        view_now.observe(FEED["ratings"].slice(2000, 500))
    now = FEED["ratings"]["timestamp"][2500].as_py()
    ids = FEED["items"]["item_id"].to_pylist()
    assert loaded.rows(5, ids, now).equals(view.rows(5, ids, now))
    assert [path.name for path in tmp_path.iterdir()] == ["view"]


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="view"):
        new_view().save(tmp_path / "view")
    assert [path.name for path in tmp_path.rglob("*")] == ["view", "mine.txt"]


def test_loading_from_nowhere_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        FeatureView.load(tmp_path / "nowhere")
