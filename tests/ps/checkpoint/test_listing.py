"""What stays of a list: the last full ones with their deltas, and nothing without its parents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.checkpoint.listing import CheckpointInfo, kept_ids


@st.composite
def lists(draw: st.DrawFn) -> list[CheckpointInfo]:
    """Return full ones and deltas to any earlier one; what goes on from damage is damaged."""
    infos: list[CheckpointInfo] = []
    for number in range(draw(st.integers(0, 12))):
        parent = draw(st.none() | st.sampled_from(infos)) if infos else None
        broken = draw(st.integers(0, 5)) == 0 or (parent is not None and parent.damage is not None)
        infos.append(
            CheckpointInfo(
                id=f"{number:02d}",
                kind="full" if parent is None else "delta",
                parent=None if parent is None else parent.id,
                damage="broken" if broken else None,
            )
        )
    return infos


@given(lists(), st.integers(1, 4), st.data())
def test_what_stays_is_what_is_promised(
    infos: list[CheckpointInfo], fulls: int, data: st.DataObject
) -> None:
    ids = [info.id for info in infos]
    in_use = data.draw(st.sets(st.sampled_from(ids), max_size=2)) if ids else set()
    kept = set(kept_ids(infos, fulls, in_use))
    intact = [info for info in infos if info.damage is None]
    assert in_use <= kept <= set(ids)
    if not intact:
        assert kept == set(ids)
        return
    last = [info.id for info in intact if info.kind == "full"][-fulls:]
    assert kept.issuperset(last)
    assert intact[-1].id in kept
    by_id = {info.id: info for info in infos}
    for name in kept:
        parent = by_id[name].parent
        # Of an intact one everything it goes on from is there still.
        assert by_id[name].damage is not None or parent is None or parent in kept
    if not in_use and intact[-1].kind == "full":
        assert all(name >= last[0] for name in kept)


def test_a_delta_of_a_full_one_that_goes_goes_too() -> None:
    infos = [
        CheckpointInfo(id="1", kind="full"),
        CheckpointInfo(id="2", kind="full"),
        CheckpointInfo(id="3", kind="delta", parent="1"),
        CheckpointInfo(id="4", kind="delta", parent="2"),
    ]
    assert kept_ids(infos, 1) == {"2", "4"}
    assert kept_ids(infos, 1, {"3"}) == {"1", "2", "3", "4"}
