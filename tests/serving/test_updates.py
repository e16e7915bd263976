"""Updates: merging equals applying one by one; a follower applies each once, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ParameterServerError
from weiml.ps import Cut, Delta
from weiml.serving.updates import Events, Follower, Offer, Update, merge_deltas, merge_updates


class Target:
    """Holds what was applied, as dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, int], float] = {}
        self.vectors: dict[tuple[str, str], list[float]] = {}
        self.events: list[int] = []

    def apply_delta(self, model: str, delta: Delta) -> None:
        for table, (keys, weights) in delta.tables.items():
            for key, weight in zip(keys.tolist(), weights[:, 0].tolist(), strict=True):
                self.rows[model, table, key] = weight
        for name, vector in delta.vectors.items():
            self.vectors[model, name] = vector.tolist()

    def observe(self, events: Events) -> None:
        self.events.extend(events["item_id"])

    def state(self) -> Any:
        return self.rows, self.vectors, self.events


def delta(keys: Sequence[int], value: float, sequence: int) -> Delta:
    rows = (np.array(keys, np.uint64), np.full((len(keys), 1), value, np.float32))
    return Delta(
        since=Cut((sequence - 1,)),
        cut=Cut((sequence,)),
        tables={"wide": rows},
        vectors={"dense": np.array([value], np.float32)} if sequence % 2 else {},
    )


def update(number: int, keys: Sequence[int], model: str = "a", epoch: str = "e") -> Update:
    return Update(
        epoch=epoch,
        first=number,
        last=number,
        deltas={model: delta(keys, float(number), number)},
        events=((number, {"item_id": [number]}),) if number % 3 == 0 else (),
        published_at=float(number),
    )


key_lists = st.lists(st.integers(1, 6), unique=True, max_size=4)
histories = st.lists(st.tuples(key_lists, st.sampled_from("ab")), min_size=1, max_size=9).map(
    lambda steps: [update(i + 1, keys, model) for i, (keys, model) in enumerate(steps)]
)


@settings(deadline=None)
@given(histories, st.data())
def test_merged_updates_have_the_effect_of_their_parts(
    history: list[Update], data: st.DataObject
) -> None:
    one_by_one = Target()
    follower = Follower(one_by_one)
    for part in history:
        assert follower.offer(part) is Offer.APPLIED
    cut = data.draw(st.integers(1, len(history)))
    merged = Target()
    follower = Follower(merged)
    parts = [merge_updates(history[:cut]), *history[cut:]]
    follower.offer(merge_updates(parts))
    assert merged.state() == one_by_one.state()
    assert follower.sequence == len(history)


@settings(deadline=None, max_examples=200)
@given(histories, st.data())
def test_a_follower_survives_gaps_repeats_and_disorder(
    history: list[Update], data: st.DataObject
) -> None:
    """Ranges of the history arrive in any order; what a follower accepts is always a prefix."""
    target = Target()
    follower = Follower(target)
    n = len(history)
    ranges = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(1, n)), max_size=12))
    for start, length in ranges:
        part = merge_updates(history[start : start + length])
        before = follower.sequence
        offer = follower.offer(part)
        if part.last <= before:
            assert offer is Offer.DUPLICATE
        elif part.first > before + 1:
            assert offer is Offer.GAP
        else:
            assert offer is Offer.APPLIED
        assert follower.sequence == (part.last if offer is Offer.APPLIED else before)
        straight = Target()
        straight_follower = Follower(straight)
        for step in history[: follower.sequence]:
            straight_follower.offer(step)
        assert target.state() == straight.state()


def test_another_epoch_applies_nothing_until_reset() -> None:
    target = Target()
    follower = Follower(target)
    follower.offer(update(1, [1]))
    foreign = update(1, [2], epoch="f")
    assert follower.offer(foreign) is Offer.NEW_EPOCH
    assert target.rows == {("a", "wide", 1): 1.0}
    fresh = Target()
    follower.reset(fresh)
    assert follower.offer(foreign) is Offer.APPLIED
    assert fresh.rows == {("a", "wide", 2): 1.0}


def test_merge_keeps_the_newest_row_and_the_whole_range() -> None:
    merged = merge_deltas([delta([1, 2], 1.0, 1), delta([2, 3], 2.0, 2)])
    keys, weights = merged.tables["wide"]
    assert dict(zip(keys.tolist(), weights[:, 0].tolist(), strict=True)) == {1: 1.0, 2: 2.0, 3: 2.0}
    assert merged.vectors["dense"].tolist() == [1.0]
    assert (merged.since, merged.cut, merged.sequence) == (Cut((0,)), Cut((2,)), 2)


def test_merge_keeps_the_newest_of_rows_and_deletions() -> None:
    gone = {"wide": np.array([1, 2], np.uint64)}
    parts = [
        delta([1, 2, 3], 1.0, 1),
        replace(delta([], 2.0, 2), deleted=gone),
        delta([2], 3.0, 3),
    ]
    merged = merge_deltas(parts)
    keys, weights = merged.tables["wide"]
    assert dict(zip(keys.tolist(), weights[:, 0].tolist(), strict=True)) == {2: 3.0, 3: 1.0}
    assert merged.deleted["wide"].tolist() == [1]
    assert not merged.full


def test_merge_forgets_what_came_before_a_full_delta() -> None:
    merged = merge_deltas([delta([1, 2], 1.0, 1), replace(delta([2], 2.0, 2), full=True)])
    assert merged.tables["wide"][0].tolist() == [2]
    assert merged.full
    assert merged.since == Cut((0,))


def test_updates_that_do_not_follow_each_other_are_refused() -> None:
    with pytest.raises(ParameterServerError, match=r"1\.\.1 and 3\.\.3 do not follow"):
        merge_updates([update(1, [1]), update(3, [1])])
