"""A store: what is newest, what is damaged, what may go, and what was there at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.ps.checkpoint.state import WIDE, Rows, random_rows, rows_of, trained
from weiml.errors import ParameterServerError
from weiml.ps.checkpoint import Chain, CheckpointStore, Folder

NOON = 1_795_521_600.0  # 2026-11-24 12:00 UTC


class History:
    """A store, a state that goes on, and what the state was at each checkpoint."""

    def __init__(self, root: str, rng: np.random.Generator) -> None:
        self.store = CheckpointStore(root)
        self.state = trained(rng, num_keys=30)
        self.rng = rng
        self.ids: list[str] = []
        self.known: dict[str, dict[str, Rows]] = {}
        self.time_s = NOON

    def save(self, parent: str | None = None) -> str:
        self.state.put("wide", random_rows(WIDE, [len(self.ids)], self.rng))
        self.state.delete("deep", [len(self.ids) * 2])
        with self.store.writer(num_buckets=64, time_s=self.time_s, parent=parent) as writer:
            manifest = writer.commit(self.state.write(writer.spec))
        self.time_s += 60
        self.ids.append(manifest.id)
        self.known[manifest.id] = {name: dict(rows) for name, rows in self.state.tables.items()}
        return manifest.id

    def full(self) -> str:
        return self.save()

    def delta(self) -> str:
        return self.save(self.ids[-1])

    def check(self, chain: Chain, id: str) -> None:
        assert chain.newest.id == id
        assert rows_of(chain) == self.known[id]

    def files(self, id: str, kind: str = "rows") -> list[str]:
        manifest = self.store.open(id).newest
        return [entry.path for entry in manifest.files if entry.kind == kind]


@pytest.fixture
def history(place: str, rng: np.random.Generator) -> History:
    return History(place, rng)


@pytest.fixture
def local(tmp_path: Path, rng: np.random.Generator) -> History:
    return History(str(tmp_path / "store"), rng)


def spoil(history: History, id: str, how: str = "flip") -> str:
    """Damage a checkpoint; return a part of the message that says so."""
    folder = history.store.folder / id
    path = history.files(id)[0]
    if how == "no manifest":
        folder.remove_file("manifest.json")
        return "has no manifest.json"
    content = bytearray(folder.read(path))
    if how == "flip":
        content[200] ^= 1
    folder.remove_file(path)
    if how != "missing":
        folder.write(path, bytes(content[:-1] if how == "truncate" else content))
    return f"{path} is damaged"


def test_a_store_that_is_not_there_yet_is_empty(history: History) -> None:
    assert history.store.list() == ()
    assert history.store.latest() is None
    assert history.store.retain(1) == ()
    with pytest.raises(ParameterServerError, match="no intact checkpoint below"):
        history.store.open_latest()


def test_checkpoints_are_listed_by_time_with_what_they_hold(history: History) -> None:
    first, second, third = history.full(), history.delta(), history.full()
    assert (first, second) == ("20261124T120000.000Z-full", "20261124T120100.000Z-delta")
    infos = history.store.list()
    assert [info.id for info in infos] == [first, second, third]
    assert [info.kind for info in infos] == ["full", "delta", "full"]
    assert [info.parent for info in infos] == [None, first, None]
    assert [info.time_s for info in infos] == [NOON, NOON + 60, NOON + 120]
    assert all(info.damage is None and info.bytes > 0 and info.num_shards == 2 for info in infos)
    assert infos[1].rows == 1
    assert infos[0].rows == sum(map(len, history.known[first].values()))
    assert infos[0].sequence < infos[1].sequence < infos[2].sequence == 2 * history.state.sequence
    assert history.store.latest() == infos[2]


def test_every_checkpoint_opens_as_of_its_time(local: History) -> None:
    for step in (local.full, local.delta, local.delta, local.full, local.delta):
        step()
    for number, id in enumerate(local.ids):
        local.check(local.store.open(id), id)
        for late in (0.0, 59.0):
            before_s = NOON + 60 * number + late
            chain, skipped = local.store.open_latest(before_s=before_s)
            local.check(chain, id)
            assert skipped == ()
    with pytest.raises(ParameterServerError, match="of 20261124T115959.000Z or before"):
        local.store.open_latest(before_s=NOON - 1)


def test_names_keep_their_order_when_the_clock_goes_back(local: History) -> None:
    local.full()
    for _ in range(3):
        local.time_s = NOON - 1000
        local.delta()
    assert local.ids == sorted(local.ids)
    assert local.ids[3] == "20261124T120000.003Z-delta"
    assert [info.time_s for info in local.store.list()] == pytest.approx(
        [NOON, NOON + 0.001, NOON + 0.002, NOON + 0.003], abs=1e-5
    )
    local.check(local.store.open_latest()[0], local.ids[3])


@pytest.mark.parametrize("how", ["flip", "truncate", "missing", "no manifest"])
def test_what_is_damaged_is_named_and_the_one_before_is_used(local: History, how: str) -> None:
    local.full()
    local.delta()
    local.full()
    last = local.delta()
    match = spoil(local, last, how)
    chain, (skipped,) = local.store.open_latest()
    local.check(chain, local.ids[2])
    assert skipped.id == last
    assert match in skipped.why
    match = spoil(local, local.ids[2], how)
    chain, all_skipped = local.store.open_latest()
    local.check(chain, local.ids[1])
    assert [skip.id for skip in all_skipped] == [last, local.ids[2]]
    assert match in all_skipped[1].why
    with pytest.raises(ParameterServerError, match=match):
        local.store.verify(local.ids[2])


def test_damage_in_an_object_store_is_named_too(bucket: str, rng: np.random.Generator) -> None:
    history = History(f"{bucket}/damaged", rng)
    history.full()
    spoiled = history.delta()
    match = spoil(history, spoiled)
    chain, (skipped,) = history.store.open_latest()
    history.check(chain, history.ids[0])
    assert match in skipped.why


def test_a_delta_on_a_damaged_one_is_damaged(local: History) -> None:
    first = local.full()
    for _ in range(3):
        local.delta()
    spoil(local, local.ids[1], "truncate")
    damages = [info.damage for info in local.store.list()]
    assert damages[0] is None
    assert "it has" in str(damages[1])
    assert all(
        f"goes on from {id}" in str(d) for d, id in zip(damages[2:], local.ids[1:3], strict=True)
    )
    latest = local.store.latest()
    assert latest is not None
    assert latest.id == first
    chain, skipped = local.store.open_latest(verify=False)
    local.check(chain, first)
    assert len(skipped) == 3


def test_when_nothing_is_intact_all_reasons_are_told(local: History) -> None:
    local.full()
    local.delta()
    match = spoil(local, local.ids[0])
    with pytest.raises(ParameterServerError) as caught:
        local.store.open_latest()
    for text in (*local.ids, match, "skipped:"):
        assert text in str(caught.value)


def test_checkpoints_can_be_left_out(local: History) -> None:
    local.full()
    local.delta()
    chain, skipped = local.store.open_latest(verify=False, excluding={local.ids[1]})
    local.check(chain, local.ids[0])
    assert skipped == ()


def test_loading_finds_damage_on_the_way_and_goes_back(local: History) -> None:
    local.full()
    local.delta()
    match = spoil(local, local.ids[1])
    tried = []

    def load(chain: Chain) -> dict[str, Rows]:
        tried.append(chain.newest.id)
        return rows_of(chain)

    rows, (skipped,) = local.store.restore(load)
    assert rows == local.known[local.ids[0]]
    assert tried == [local.ids[1], local.ids[0]]
    assert match in skipped.why


def test_an_error_of_loading_itself_is_not_blamed_on_the_checkpoint(local: History) -> None:
    local.full()
    local.full()

    def load(chain: Chain) -> None:
        raise MemoryError("of the shard")

    with pytest.raises(MemoryError, match="of the shard"):
        local.store.restore(load)


def test_other_names_are_no_checkpoints(local: History) -> None:
    local.full()
    (Path(local.store.folder.place) / "zzz").mkdir()
    assert [info.id for info in local.store.list()] == local.ids
    for id in ("", "..", "../x", ".hidden"):
        with pytest.raises(ParameterServerError, match="is no checkpoint of"):
            local.store.open(id)


# What goes and what stays


def test_the_last_full_ones_and_their_deltas_stay(local: History) -> None:
    for step in "fddfdfdd":
        local.full() if step == "f" else local.delta()
    assert local.store.retain(3) == ()
    removed = local.store.retain(2)
    assert removed == tuple(reversed(local.ids[:3]))
    assert [info.id for info in local.store.list()] == local.ids[3:]
    local.store.retain(1)
    assert [info.id for info in local.store.list()] == local.ids[5:]
    for id in local.ids[5:]:
        local.check(local.store.open(id), id)


def test_nothing_is_left_of_what_is_removed(history: History) -> None:
    history.full()
    history.full()
    history.store.retain(1)
    assert {path.split("/")[0] for path in history.store.folder.sizes()} == {history.ids[1]}
    assert history.store.folder.folders(hidden=True) == [history.ids[1]]


def test_a_chain_in_use_stays(local: History) -> None:
    for step in "fdddfdf":
        local.full() if step == "f" else local.delta()
    local.store.retain(1, in_use={local.ids[2]})
    assert [info.id for info in local.store.list()] == [*local.ids[:3], local.ids[6]]
    local.check(local.store.open(local.ids[2]), local.ids[2])


def test_the_newest_stays_with_what_it_goes_on_from_however_old(local: History) -> None:
    local.full()
    local.full()
    # As after going back to the first one.
    local.state.base = sum(local.store.open(local.ids[0]).newest.sequences) // 2
    last = local.save(local.ids[0])
    local.store.retain(1)
    assert [info.id for info in local.store.list()] == local.ids
    assert local.store.open(last).checkpoints[0].manifest.id == local.ids[0]


def test_damaged_full_ones_do_not_count(local: History) -> None:
    for _ in range(3):
        local.full()
    spoil(local, local.ids[2], "truncate")
    local.store.retain(1)
    assert [info.id for info in local.store.list()] == local.ids[1:]
    local.check(local.store.open_latest()[0], local.ids[1])


def test_keeping_none_is_refused(local: History) -> None:
    with pytest.raises(ParameterServerError, match="1 or more"):
        local.store.retain(0)


def test_what_a_killed_writer_left_is_never_taken_and_can_be_removed(history: History) -> None:
    history.full()
    killed = history.store.writer(num_buckets=64, time_s=history.time_s)
    history.state.write(killed.spec)  # and neither commit nor abort
    chain, _ = history.store.open_latest()
    history.check(chain, history.ids[0])
    latest = history.store.latest()
    assert latest is not None
    assert latest.id == history.ids[0]
    left = history.store.remove_unfinished()
    assert len(left) == 1
    assert {path.split("/")[0] for path in history.store.folder.sizes()} == {history.ids[0]}
    assert history.store.remove_unfinished() == ()
    history.check(history.store.open(history.ids[0]), history.ids[0])


# Readers beside a writer


def test_readers_beside_a_writer_see_whole_checkpoints_only(local: History) -> None:
    local.full()
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        store = CheckpointStore(local.store.folder.place)
        while not done.is_set():
            assert all(info.damage is None for info in store.list())
            chain, skipped = store.open_latest()
            assert skipped == ()
            rows = rows_of(chain)
            seen.add(chain.newest.id)
            while chain.newest.id not in local.known:
                continue  # committed, but not noted down yet
            assert rows == local.known[chain.newest.id]

    errors = in_threads([read, read], lambda: [local.delta() for _ in range(12)], done)
    assert errors == []
    assert len(seen) > 1


def in_threads(
    work: list[Callable[[], None]], meanwhile: Callable[[], object], done: threading.Event
) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in work]
    for thread in threads:
        thread.start()
    try:
        meanwhile()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return errors


def test_a_checkpoint_is_exported_by_its_id(local: History, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    local.full()
    local.delta()
    local.store.export(local.ids[1], tmp_path / "out", columns="state")
    keys = pq.read_table(tmp_path / "out" / "wide")["key"].to_pylist()
    assert sorted(keys) == sorted(local.known[local.ids[1]]["wide"])


def test_the_state_of_a_store_is_all_in_its_folder(local: History, tmp_path: Path) -> None:
    local.full()
    local.delta()
    moved = Folder.at(tmp_path / "moved")
    local.store.folder.rename(moved)
    local.check(CheckpointStore(moved.place).open_latest()[0], local.ids[1])
