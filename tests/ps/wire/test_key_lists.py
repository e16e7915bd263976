"""Key lists between a sender and receivers that forget, restart and hear things twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from weiml.ps.wire import (
    KeyListCache,
    KeyMessage,
    KeyReceiver,
    KeySender,
    Sent,
    WireConfig,
    signature,
)

some_keys = st.lists(st.integers(0, 300) | st.integers(0, 2**64 - 1), max_size=400)
CONFIGS: dict[str, dict[str, Any]] = {
    "signatures": {"key_cache_mib": 1.0},
    "packed": {"keys": "packed"},
    "both": {"keys": "packed", "key_cache_mib": 1.0},
    "a small dictionary": {"keys": "packed", "key_cache_mib": 0.001, "dictionary_keys": 500},
}


def keys_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def ordered(keys: np.ndarray, sent: Sent) -> np.ndarray:
    return keys if sent.order is None else keys[sent.order]


def deliver(sender: KeySender, receiver: KeyReceiver, keys: np.ndarray) -> int:
    """Bring a list across as a client does; return how often the shard did not understand."""
    sent = sender.send(keys)
    failures = 0
    while True:
        got = receiver.receive("client", sent.message)
        if got is not None:
            assert np.array_equal(got, ordered(keys, sent))
            return failures
        failures += 1
        assert failures < 2, "the second message leans on nothing"
        sent = sender.resend(keys, sent.message)


# Signatures


@given(keys=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), data=st.data())
def test_another_list_has_another_signature(keys: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(keys) - 1))
    bit = data.draw(st.integers(0, 63))
    other = list(keys)
    other[place] ^= 1 << bit
    assert signature(keys_of(*keys)) != signature(keys_of(*other))
    assert signature(keys_of(*keys)) != signature(keys_of(*keys[:-1]))
    assert len(signature(keys_of(*keys))) == 16


def test_a_signature_depends_on_the_order_in_both_of_its_halves() -> None:
    keys = np.arange(100, dtype=np.uint64)
    other = keys.copy()
    other[[3, 70]] = other[[70, 3]]
    one, two = (np.frombuffer(signature(k), np.uint64) for k in (keys, other))
    assert (one != two).all()


def test_no_two_of_many_similar_lists_share_half_a_signature() -> None:
    halves = [np.frombuffer(signature(keys_of(i, 7)), np.uint64) for i in range(15_000)]
    halves += [np.frombuffer(signature(keys_of(7, i)), np.uint64) for i in range(15_000)]
    for half in np.stack(halves).T:
        assert len(np.unique(half)) == 30_000 - 1  # (7, 7) is there twice


# The protocol


@pytest.mark.parametrize("knobs", CONFIGS.values(), ids=CONFIGS)
@given(lists=st.lists(some_keys, max_size=8))
def test_lists_arrive_as_they_were_sent_at_once(
    knobs: dict[str, Any], lists: list[list[int]]
) -> None:
    sender, receiver = KeySender(WireConfig(**knobs)), KeyReceiver()
    for keys in lists:
        for _ in range(2):
            assert deliver(sender, receiver, keys_of(*keys)) == 0


@pytest.mark.parametrize("knobs", CONFIGS.values(), ids=CONFIGS)
@given(lists=st.lists(some_keys, min_size=1, max_size=8), data=st.data())
def test_a_restarted_shard_gets_everything_it_needs(
    knobs: dict[str, Any], lists: list[list[int]], data: st.DataObject
) -> None:
    sender, receiver = KeySender(WireConfig(**knobs)), KeyReceiver()
    for keys in lists:
        deliver(sender, receiver, keys_of(*keys))
        if data.draw(st.booleans()):
            receiver = KeyReceiver()
        deliver(sender, receiver, keys_of(*keys))


def test_a_push_after_its_pull_sends_16_bytes() -> None:
    sender, receiver = KeySender(WireConfig(key_cache_mib=1)), KeyReceiver()
    keys = np.arange(1000, dtype=np.uint64)
    assert sender.send(keys).message.nbytes == 8000 + 16
    deliver(sender, receiver, keys)
    assert sender.send(keys).message.nbytes == 16
    assert sender.send(keys[::-1]).message.nbytes == 8000 + 16
    assert sender.send(keys[:2]).message.nbytes == 16


def test_a_shard_that_gave_a_list_up_is_sent_it_again() -> None:
    sender = KeySender(WireConfig(key_cache_mib=1))
    receiver = KeyReceiver(max_list_bytes=1600)
    first, second = np.arange(150, dtype=np.uint64), np.arange(150, 300, dtype=np.uint64)
    assert [deliver(sender, receiver, keys) for keys in (first, second)] == [0, 0]
    assert [deliver(sender, receiver, keys) for keys in (second, first, first)] == [0, 1, 0]


def test_a_list_that_no_cache_can_hold_always_travels() -> None:
    sender, receiver = KeySender(WireConfig(key_cache_mib=0.001)), KeyReceiver()
    keys = np.arange(1000, dtype=np.uint64)
    for _ in range(2):
        assert sender.send(keys).message.keys is not None
        assert deliver(sender, receiver, keys) == 0
    small = KeyReceiver(max_list_bytes=100)
    assert small.receive("client", KeyMessage(signature(keys), keys)) is not None
    assert len(small.lists) == 0


def test_the_list_used_longest_ago_leaves_the_cache_first() -> None:
    cache = KeyListCache(max_bytes=3 * 80)
    lists = {name: np.full(10, i, np.uint64) for i, name in enumerate((b"a", b"b", b"c", b"d"))}
    for name in (b"a", b"b", b"c"):
        cache.put(name, lists[name])
    assert cache.get(b"a") is lists[b"a"]
    cache.put(b"d", lists[b"d"])
    assert cache.get(b"b") is None
    assert [cache.get(name) is not None for name in (b"a", b"c", b"d")] == [True] * 3
    cache.put(b"d", lists[b"d"])
    assert cache.nbytes == 240
    assert len(cache) == 3


# Dictionaries


def test_known_keys_cost_a_bit_or_two_and_new_ones_eight_bytes() -> None:
    sender, receiver = KeySender(WireConfig(keys="packed")), KeyReceiver()
    keys = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64)
    assert 8 * 10_000 < sender.send(keys).message.nbytes < 8.3 * 10_000
    deliver(sender, receiver, keys)
    assert sender.send(keys[::2]).message.nbytes < 0.3 * 5_000


def test_a_sender_made_anew_is_not_taken_for_the_one_before() -> None:
    receiver = KeyReceiver()
    keys = np.arange(100, dtype=np.uint64)
    for order in (keys, keys[::-1], keys + np.uint64(5)):
        assert deliver(KeySender(WireConfig(keys="packed")), receiver, order) == 0


def test_messages_in_flight_when_a_shard_restarts_begin_one_epoch_only() -> None:
    sender, receiver = KeySender(WireConfig(keys="packed")), KeyReceiver()
    lists = [np.arange(i, i + 50, dtype=np.uint64) for i in range(0, 250, 25)]
    for keys in lists[:3]:
        deliver(sender, receiver, keys)
    flight = [(keys, sender.send(keys)) for keys in lists[3:]]
    receiver = KeyReceiver()
    failed = [(k, s) for k, s in flight if receiver.receive("client", s.message) is None]
    assert len(failed) == len(flight)
    epochs = set()
    for keys, sent in failed:
        again = sender.resend(keys, sent.message)
        assert again.message.packed is not None
        epochs.add(again.message.packed.epoch)
        got = receiver.receive("client", again.message)
        assert got is not None
        assert np.array_equal(got, ordered(keys, again))
    assert len(epochs) == 1


def test_a_message_heard_twice_or_after_later_ones_gives_the_same_keys() -> None:
    sender, receiver = KeySender(WireConfig(keys="packed")), KeyReceiver()
    lists = [np.arange(i, i + 50, dtype=np.uint64) for i in (0, 25, 50)]
    sent = [sender.send(keys) for keys in lists]
    for i in (0, 1, 2, 0, 2, 1, 0):
        got = receiver.receive("client", sent[i].message)
        assert got is not None
        assert np.array_equal(got, ordered(lists[i], sent[i]))


def test_a_message_that_overtook_another_is_asked_for_again() -> None:
    sender, receiver = KeySender(WireConfig(keys="packed")), KeyReceiver()
    first, second = (sender.send(np.arange(n, dtype=np.uint64)) for n in (10, 20))
    assert receiver.receive("client", second.message) is None
    assert receiver.receive("client", first.message) is not None
    assert receiver.receive("client", second.message) is not None


def test_clients_do_not_share_their_numbers() -> None:
    receiver = KeyReceiver()
    keys = np.arange(10, dtype=np.uint64)
    senders = {name: KeySender(WireConfig(keys="packed")) for name in ("a", "b")}
    for shift, (name, sender) in enumerate(senders.items()):
        sent = sender.send(keys + np.uint64(shift))
        got = receiver.receive(name, sent.message)
        assert got is not None
        assert np.array_equal(got, ordered(keys + np.uint64(shift), sent))
    receiver.forget("a")
    assert receiver.receive("a", senders["a"].send(keys).message) is None


def test_the_dictionary_used_longest_ago_is_given_up_for_want_of_room() -> None:
    receiver = KeyReceiver(max_dictionary_bytes=60_000)
    keys = np.arange(3000, dtype=np.uint64)
    senders = {name: KeySender(WireConfig(keys="packed")) for name in ("a", "b", "c")}
    for name, sender in senders.items():
        assert receiver.receive(name, sender.send(keys).message) is not None
    understood = {
        name: receiver.receive(name, sender.send(keys).message) is not None
        for name, sender in senders.items()
    }
    assert understood == {"a": False, "b": True, "c": True}
    assert receiver.nbytes <= 60_000


def test_more_keys_than_a_dictionary_holds_travel_as_they_are() -> None:
    sender, receiver = KeySender(WireConfig(keys="packed", dictionary_keys=100)), KeyReceiver()
    for size in (101, 60, 60, 100, 99):
        keys = np.random.default_rng(size).integers(0, 2**64, size, dtype=np.uint64)
        assert (sender.send(keys).message.keys is not None) == (size > 100)
        assert deliver(sender, receiver, keys) == 0


class Network(RuleBasedStateMachine):
    """Two shards' worth of everything that may go wrong, in any order."""

    def __init__(self) -> None:
        super().__init__()
        knobs = CONFIGS["a small dictionary"]
        self.sender = KeySender(WireConfig(**knobs))
        self.receiver = KeyReceiver(max_list_bytes=2000)
        self.delivered: list[tuple[np.ndarray, Sent]] = []

    @rule(start=st.integers(0, 200), size=st.integers(0, 120), step=st.integers(1, 3))
    def send(self, start: int, size: int, step: int) -> None:
        keys = np.arange(start, start + size * step, step, dtype=np.uint64)[::-1].copy()
        sent = self.sender.send(keys)
        if self.receiver.receive("client", sent.message) is None:
            sent = self.sender.resend(keys, sent.message)
            got = self.receiver.receive("client", sent.message)
            assert got is not None
            assert np.array_equal(got, ordered(keys, sent))
        self.delivered.append((keys, sent))

    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        if self.delivered:
            keys, sent = data.draw(st.sampled_from(self.delivered))
            got = self.receiver.receive("client", sent.message)
            assert got is None or np.array_equal(got, ordered(keys, sent))

    @rule()
    def restart(self) -> None:
        self.receiver = KeyReceiver(max_list_bytes=2000)

    @rule(keys=st.lists(st.integers(0, 2**64 - 1), max_size=50))
    def another_client(self, keys: list[int]) -> None:
        other = KeySender(WireConfig(keys="packed", key_cache_mib=1))
        self.receiver.receive("other", other.send(keys_of(*keys)).message)


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
