"""The row store against a dictionary, its layout, its growth, and the memory it keeps."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.hashing import mix64, unmix64
from weiml.ps.rows import store as row_store
from weiml.ps.rows.memory import floats, integers, load_u32, store_u32
from weiml.ps.rows.search import VISITED, multiply_high
from weiml.ps.rows.store import RowStore

WORDS = 2
TOP = 2**64 - 1


@numba.njit
def hashes_of(keys: np.ndarray) -> np.ndarray:
    out = np.empty_like(keys)
    for i in range(keys.size):
        out[i] = mix64(keys[i])
    return out


@numba.njit
def keys_of(hashes: np.ndarray) -> np.ndarray:
    """Return the keys that have these hashes, to place rows where a test wants them."""
    out = np.empty_like(hashes)
    for i in range(hashes.size):
        out[i] = unmix64(hashes[i])
    return out


@numba.njit
def upper_halves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.empty_like(a)
    for i in range(a.size):
        out[i] = multiply_high(a[i], b[i])
    return out


def array(keys: object) -> np.ndarray:
    return np.array(keys, np.uint64)


def payload_of(keys: np.ndarray, words: int = WORDS) -> np.ndarray:
    """Return a payload uint32 (n, words) that tells its key."""
    column = np.arange(1, words + 1, dtype=np.uint64)
    return ((keys[:, None] * column) >> np.uint64(7)).astype(np.uint32)


def filled(keys: np.ndarray, num_buckets: int = 16) -> RowStore:
    store = RowStore(num_buckets, WORDS)
    addresses, _ = store.find_or_insert(keys)
    store.set_rows(addresses, payload_of(keys))
    return store


def contents(store: RowStore) -> dict[int, tuple[int, ...]]:
    keys, addresses = store.scan(0, store.num_buckets)
    rows = store.rows(addresses)
    return {int(key): tuple(row.tolist()) for key, row in zip(keys, rows, strict=True)}


def check_layout(store: RowStore) -> None:
    """Every row is found, in hash order, at or behind its home, with no empty slot between."""
    keys, addresses = store.scan(0, store.num_buckets)
    hashes = hashes_of(keys)
    assert (hashes[1:] > hashes[:-1]).all()
    assert (store.find(keys) == addresses).all()
    bits = np.uint64(store.num_buckets.bit_length() - 1)
    buckets = (hashes >> (np.uint64(64) - bits)).astype(np.int64)
    groups = store._homes[buckets, 1].astype(np.uint64)
    stride = store._slot * store._group
    home = upper_halves(hashes << bits, groups).astype(np.int64) * stride
    places = addresses - 8 - store._homes[buckets, 0]
    assert (places % store._slot == 0).all()
    follows = np.append(False, (buckets[1:] == buckets[:-1]))
    expected = np.empty_like(places)
    for i in range(places.size):  # each at its home, or just behind the row before
        behind = expected[i - 1] + store._slot if follows[i] else 0
        expected[i] = max(home[i], behind)
    assert (places == expected).all()
    counts = store.bucket_counts()
    assert (np.bincount(buckets, minlength=store.num_buckets) == counts).all()
    assert counts.sum() == len(store) == keys.size


# Keys whose hashes crowd: at both ends of both halves, in one spot, and anywhere.
crowded = st.one_of(
    st.sampled_from([0, 1, 2**62, 2**63, 2**63 - 1, TOP]).flatmap(
        lambda corner: st.integers(-20, 20).map(lambda near: (corner + near) % 2**64)
    ),
    st.integers(0, TOP),
).map(lambda h: int(keys_of(array([h]))[0]))
some_keys = st.lists(st.one_of(crowded, st.sampled_from([0, 1, TOP])), max_size=40)
steps = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "delete", "find", "clear"]), some_keys),
    max_size=12,
)


@settings(max_examples=150)
@given(steps, st.sampled_from([2, 4, 16]), st.sampled_from([1, 2, 3, 6, 14, 20]))
def test_behaves_like_a_dictionary(
    sequence: list[tuple[str, list[int]]], num_buckets: int, words: int
) -> None:
    store = RowStore(num_buckets, words)
    model: dict[int, tuple[int, ...]] = {}
    for what, listed in sequence:
        keys = array(listed)
        if what == "insert":
            addresses, new = store.find_or_insert(keys)
            first: list[int] = []
            for i, key in enumerate(listed):
                if key not in model:
                    model[key] = (0,) * words
                    first.append(i)
            assert new.tolist() == first
            assert (addresses == store.find(keys)).all()
            assert [tuple(row.tolist()) for row in store.rows(addresses)] == [
                model[key] for key in listed
            ]
            store.set_rows(addresses, payload_of(keys, words))
            model |= {
                key: tuple(row.tolist())
                for key, row in zip(listed, payload_of(keys, words), strict=True)
            }
        elif what == "delete":
            there = [model.pop(key, None) is not None for key in listed]
            assert store.delete(keys).tolist() == there
        elif what == "find":
            assert (store.find(keys) != 0).tolist() == [key in model for key in listed]
        else:
            bucket = len(listed) % num_buckets
            store.clear(np.array([bucket]))
            shift = 65 - num_buckets.bit_length()
            gone = [key for key in model if int(hashes_of(array([key]))[0]) >> shift == bucket]
            for key in gone:
                del model[key]
        assert contents(store) == model
        check_layout(store)


def test_upper_half_of_a_product() -> None:
    values = array([0, 1, 2, 2**32, 2**63, TOP, 0x9E3779B97F4A7C15])
    a, b = np.repeat(values, values.size), np.tile(values, values.size)
    expected = [int(x) * int(y) >> 64 for x, y in zip(a, b, strict=True)]
    assert upper_halves(a, b).tolist() == expected


def test_the_smallest_and_the_largest_key_and_hash_are_keys_like_others() -> None:
    odd = np.concatenate([array([0, TOP]), keys_of(array([0, TOP]))])
    keys = np.unique(odd)
    store = RowStore(2, 1)
    assert (store.find(keys) == 0).all()
    _, new = store.find_or_insert(keys)
    assert new.size == keys.size
    assert (store.find(keys) != 0).all()
    assert store.delete(keys).all()
    assert len(store) == 0


def test_a_new_payload_is_zero_even_where_a_row_was_deleted(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 3000, np.uint64)
    store = filled(keys)
    assert store.delete(keys).all()
    addresses, new = store.find_or_insert(keys)
    assert new.size == keys.size
    assert not store.rows(addresses).any()


@pytest.mark.parametrize("words", [2, 6])
def test_payloads_that_look_like_keys_are_not_found(words: int) -> None:
    keys = keys_of(np.arange(1, 12, dtype=np.uint64) << np.uint64(40))
    other = keys_of(array([(1 << 40) + 1]))
    store = RowStore(2, words)
    addresses, _ = store.find_or_insert(keys)
    looks = hashes_of(other) + np.uint64(1)  # what its slot would begin with
    store.set_rows(addresses, np.tile(looks.view(np.uint32), (keys.size, words // 2)))
    assert store.find(other).tolist() == [0]
    assert (store.find(keys) == addresses).all()


def test_repeated_keys_in_one_call_are_one_row() -> None:
    keys = array([7, 5, 7, 7, 5, 9])
    store = RowStore(4, WORDS)
    addresses, new = store.find_or_insert(keys)
    assert new.tolist() == [0, 1, 5]
    assert addresses[0] == addresses[2] == addresses[3] != addresses[1] == addresses[4]
    assert store.delete(keys).tolist() == [True, True, False, False, False, True]


def test_addresses_hold_after_a_call_that_moved_rows_and_grew(rng: np.random.Generator) -> None:
    old = rng.integers(0, TOP, 5000, np.uint64)
    store = filled(old)
    for share in (1, 100, 20_000):  # few buckets touched, all touched, all grown
        fresh = rng.integers(0, TOP, share, np.uint64)
        keys = rng.permutation(np.concatenate([old, fresh]))
        addresses, new = store.find_or_insert(keys)
        assert new.size == share
        assert (addresses == store.find(keys)).all()
        known = np.isin(keys, old)
        assert (store.rows(addresses[known]) == payload_of(keys[known])).all()
        assert not store.rows(addresses[~known]).any()
        store.delete(fresh)


@pytest.mark.parametrize("words", [1, 2, 5, 6, 14, 40])
def test_payloads_survive_growth_in_small_steps(
    words: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(row_store, "LARGE", 1 << 18)
    keys = rng.integers(0, TOP, 60_000, np.uint64)
    store = RowStore(16, words)
    for part in np.array_split(keys, 30):
        addresses, new = store.find_or_insert(part)
        assert new.size == part.size
        store.set_rows(addresses, payload_of(part, words))
    assert store.nbytes > 2 << 18
    assert (store.rows(store.find(keys)) == payload_of(keys, words)).all()
    check_layout(store)


def test_a_large_store_is_filled_evenly(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(row_store, "LARGE", 1 << 18)
    store = RowStore(64, WORDS, max_load=0.93)
    loads = []
    for _ in range(60):
        store.find_or_insert(rng.integers(0, TOP, 10_000, np.uint64))
        loads.append(len(store) * 16 / store.nbytes)
    # Between 0.93 and 0.93 / 1.15 all the time; tails and noise take the rest.
    assert min(loads[20:]) > 0.8
    check_layout(store)


def test_expected_rows_find_room_without_growing(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 200_000, np.uint64)
    store = RowStore(16, WORDS, expected_rows=200_000)
    store.find_or_insert(keys[:1000])  # all buckets have rows now
    homes, room = store._homes.copy(), store.nbytes
    assert room * store.max_load < 1.05 * 16 * 200_000
    addresses, new = store.find_or_insert(keys)
    assert new.size == 199_000
    assert (store._homes == homes).all()
    store.set_rows(addresses, payload_of(keys))
    check_layout(store)
    store.delete(keys[:150_000])
    assert store.nbytes == room  # the others may come back
    more = rng.integers(0, TOP, 100_000, np.uint64)
    store.set_rows(store.find_or_insert(more)[0], payload_of(more))
    kept = np.concatenate([keys[150_000:], more])
    assert (store.rows(store.find(kept)) == payload_of(kept)).all()
    check_layout(store)
    store.clear()
    assert store.nbytes == 0
    order = np.argsort(hashes_of(keys))
    assert store.append(keys[order][:400], payload_of(keys[order][:400])) == 400
    homes = store._homes.copy()
    store.find_or_insert(keys[order][:10_000])
    assert (store._homes[0] == homes[0]).all()


def test_the_layout_depends_on_the_keys_and_not_on_their_order(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 20_000, np.uint64)
    extra = rng.integers(0, TOP, 2_000, np.uint64)
    one, other = filled(keys), filled(rng.permutation(keys))
    other.find_or_insert(extra)
    other.delete(extra)
    if not (one._homes[:, 1] == other._homes[:, 1]).all():
        one.find_or_insert(extra)
        one.delete(extra)
    assert (one._homes[:, 1] == other._homes[:, 1]).all()
    keys, addresses = one.scan(0, 16)
    again, others = other.scan(0, 16)
    assert (keys == again).all()
    assert (one.rows(addresses) == other.rows(others)).all()
    buckets = (hashes_of(keys) >> np.uint64(60)).astype(np.int64)
    places = addresses - one._homes[buckets, 0]
    assert (places == others - other._homes[buckets, 0]).all()


@pytest.mark.parametrize("corner", [0, 2**63 - 1, 2**63, TOP])
def test_keys_that_all_crowd_in_one_place_stay_correct(corner: int) -> None:
    near = np.arange(3000, dtype=np.uint64)
    hashes = array(corner) - near if corner & 1 else array(corner) + near
    keys = keys_of(hashes)
    store = filled(keys, 2)
    assert (store.rows(store.find(keys)) == payload_of(keys)).all()
    assert store.nbytes < 3000 * 16 * 8
    check_layout(store)
    assert store.delete(keys[::2]).all()
    assert (store.rows(store.find(keys[1::2])) == payload_of(keys[1::2])).all()
    check_layout(store)


def test_all_keys_in_one_bucket(rng: np.random.Generator) -> None:
    keys = keys_of(rng.integers(0, TOP, 50_000, np.uint64) >> np.uint64(10))
    store = filled(keys, 1024)
    assert store.bucket_counts()[0] == 50_000
    assert (store.rows(store.find(keys)) == payload_of(keys)).all()
    assert store.nbytes < 50_000 * 16 * 3


@numba.cfunc("void(int64, int64, int64, int64)")
def add_and_tell(addresses: int, size: int, values: int, parameters: int) -> None:
    """Add a parameter to each row's first word and write the second to its value."""
    rows, out = integers(addresses, size), floats(values, size)
    for i in range(size):
        word = load_u32(rows[i]) + np.uint32(floats(parameters, 1)[0])
        store_u32(rows[i], word)
        out[i] = np.float32(load_u32(rows[i] + 4))


def test_a_compiled_function_visits_all_rows_in_order(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 5000, np.uint64)
    store = filled(keys)
    payload = np.stack([np.arange(5000), np.arange(5000) % 99], axis=1).astype(np.uint32)
    store.set_rows(store.find(keys), payload)
    values = np.zeros((6000, 1), np.float32)
    asked = np.concatenate([keys, keys[:1000]])
    parameters = np.array([5], np.float32)
    assert store.visit(asked, values, add_and_tell.address, parameters) == 6000
    assert (values[:, 0] == np.concatenate([payload, payload[:1000]])[:, 1]).all()
    payload[:, 0] += 5
    payload[:1000, 0] += 5
    assert (store.rows(store.find(keys)) == payload).all()


def test_a_visit_ends_before_the_block_with_a_missing_key(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 3 * VISITED, np.uint64)
    store = filled(keys)
    before = contents(store)
    store.delete(keys[2 * VISITED + 7 : 2 * VISITED + 8])
    values, parameters = np.zeros((keys.size, 1), np.float32), np.ones(1, np.float32)
    visited = store.visit(keys, values, add_and_tell.address, parameters)
    assert visited == 2 * VISITED
    changed = {key for key, row in contents(store).items() if row != before[key]}
    assert changed == set(keys[:visited].tolist())
    none = np.empty((0, 1), np.float32)
    assert store.visit(array([]), none, add_and_tell.address, parameters) == 0


def test_scan_gives_buckets_in_hash_order(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 5000, np.uint64)
    store = filled(keys, 8)
    parts = [store.scan(b, b + 1)[0] for b in range(8)]
    assert [part.size for part in parts] == store.bucket_counts().tolist()
    assert (np.concatenate(parts) == keys_of(np.sort(hashes_of(keys)))).all()
    assert (store.scan(2, 5)[0] == np.concatenate(parts[2:5])).all()
    assert store.scan(3, 3)[0].size == 0


def test_clearing_buckets_leaves_the_others(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 5000, np.uint64)
    store = filled(keys, 8)
    before, nbytes = store.bucket_counts(), store.nbytes
    store.clear(np.array([1, 5]))
    before[[1, 5]] = 0
    assert (store.bucket_counts() == before).all()
    assert store.nbytes < nbytes
    check_layout(store)
    store.clear()
    assert len(store) == store.nbytes == 0
    assert (store.find(keys) == 0).all()
    assert store.find_or_insert(keys)[1].size == keys.size


def test_deleting_most_rows_gives_memory_back(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 100_000, np.uint64)
    store = filled(keys)
    full = store.nbytes
    store.delete(keys[1000:])
    assert store.nbytes < full / 20
    assert (store.rows(store.find(keys[:1000])) == payload_of(keys[:1000])).all()
    check_layout(store)
    store.delete(keys)
    assert store.nbytes == 0


def test_a_store_of_three_rows_is_small() -> None:
    store = filled(array([1, 2, 3]), 1024)
    held = store.nbytes + store._homes.nbytes + store._fill.nbytes + store._stagger.nbytes
    assert held < 100_000


def test_empty_calls() -> None:
    store, none = RowStore(2, 1), array([])
    assert store.find(none).size == 0
    assert [part.size for part in store.find_or_insert(none)] == [0, 0]
    assert store.delete(none).size == 0
    assert store.rows(store.find(none)).shape == (0, 1)
    assert store.rows(store.find(array([4]))).tolist() == [[0]]


def test_keys_may_be_read_only_or_strided(rng: np.random.Generator) -> None:
    keys = rng.integers(0, TOP, 100, np.uint64)
    keys.flags.writeable = False
    store = filled(keys)
    assert (store.find(keys[::3]) == store.find(keys)[::3]).all()


@pytest.mark.parametrize(
    ("num_buckets", "words", "max_load", "named"),
    [
        (3, 2, 0.8, "num_buckets.*3"),
        (1, 2, 0.8, "num_buckets.*1"),
        (1 << 17, 2, 0.8, "num_buckets.*131072"),
        (16, 0, 0.8, "payload_words.*0"),
        (16, 2, 1.0, r"max_load.*1\.0"),
    ],
)
def test_refuses_wrong_sizes(num_buckets: int, words: int, max_load: float, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        RowStore(num_buckets, words, max_load=max_load)


def test_refuses_a_negative_number_of_expected_rows() -> None:
    with pytest.raises(ConfigError, match=r"expected_rows.*-1"):
        RowStore(16, WORDS, expected_rows=-1)
