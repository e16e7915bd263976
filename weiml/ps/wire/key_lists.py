"""Key lists that travel once: the sender and the receiver of the keys between a client and a shard.

The sender decides how a list goes: as a 16-byte signature where it believes the shard to remember
the list, packed against a dictionary, or as it is. The receiver may know less than the sender
believes, after a restart or for want of room: it then answers None before anything was changed,
and the sender's `resend` makes a message that leans on nothing of what was lost.

Neither knows tables, rows or the network.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from weiml.ps.wire.config import WireConfig
from weiml.ps.wire.dictionary import Dictionary, KeyTable, PackedKeys

__all__ = ["KeyListCache", "KeyMessage", "KeyReceiver", "KeySender", "Sent", "signature"]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


@numba.njit(inline="always")
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(inline="always")
def _finished(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> np.uint64(33))) * _P2
    x = (x ^ (x >> np.uint64(29))) * _P3
    return x ^ (x >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def _signed(keys: np.ndarray, out: np.ndarray) -> None:
    a = np.uint64(keys.size) + _P5
    b = np.uint64(keys.size) ^ _P4
    for i in range(keys.size):
        a = _rotate(a + keys[i] * _P2, 31) * _P1
        b = _rotate((b ^ keys[i]) * _P3, 27) + _P1
    out[0] = _finished(a)
    out[1] = _finished(b)


def signature(keys: np.ndarray) -> bytes:
    """Return 16 bytes that stand for the list `keys` uint64 (n,), its order included.

    Two 64-bit hashes in one pass, each a bijection of its state for every key. Among m different
    lists two share a signature with a probability of about m² / 2¹²⁹ (10⁻²⁰ among a billion); they
    are no defence against somebody who looks for such lists.
    """
    out = np.empty(2, np.uint64)
    _signed(np.require(keys, np.uint64, ["C"]), out)
    return out.tobytes()


@dataclass(frozen=True)
class KeyMessage:
    """A list of keys on the wire; none of `keys` and `packed`: the one with this signature."""

    signature: bytes = b""
    """To remember the list by; empty: it need not be remembered."""
    keys: np.ndarray | None = None
    """uint64 (n,), as they are."""
    packed: PackedKeys | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the list's arrays and signature."""
        keys = 0 if self.keys is None else self.keys.nbytes
        return len(self.signature) + keys + (0 if self.packed is None else self.packed.nbytes)


class Sent(NamedTuple):
    """What to send of a list, and in which order the shard will see it."""

    message: KeyMessage
    order: np.ndarray | None
    """int32 (n,): the shard's i-th key is ``keys[order[i]]``; None: as given."""


class KeySender:
    """A client's side, for one shard. Messages must reach the shard in the order of their making.

    Example:
        >>> sender = KeySender(WireConfig(keys="packed", key_cache_mib=1))
        >>> receiver = KeyReceiver()
        >>> keys = np.array([5, 3, 2**64 - 1], np.uint64)
        >>> message, order = sender.send(keys)
        >>> bool((receiver.receive("client", message) == keys[order]).all())
        True
        >>> sender.send(keys).message.nbytes
        16
    """

    def __init__(self, config: WireConfig) -> None:
        self._max_bytes = config.key_cache_bytes
        self._bytes = 0
        self._lists: OrderedDict[bytes, tuple[np.ndarray | None, int]] = OrderedDict()
        packed = config.keys == "packed"
        self._dictionary = Dictionary(config.dictionary_keys) if packed else None

    @property
    def nbytes(self) -> int:
        """Bytes that the sender itself holds."""
        orders = sum(o.nbytes for o, _ in self._lists.values() if o is not None)
        return orders + (0 if self._dictionary is None else self._dictionary.nbytes)

    def send(self, keys: np.ndarray) -> Sent:
        """Return the message that stands for `keys` uint64 (n,), which may repeat."""
        flat = np.require(keys, np.uint64, ["C"])
        # Two plain keys are as short as a signature.
        name = signature(flat) if self._max_bytes and flat.size > 2 else b""
        if name in self._lists:
            self._lists.move_to_end(name)
            return Sent(KeyMessage(name), self._lists[name][0])
        return self._in_full(name, flat)

    def resend(self, keys: np.ndarray, failed: KeyMessage) -> Sent:
        """Return another message for `keys`, whose message `failed` the shard did not understand.

        A dictionary that the shard has lost is begun anew, once for all messages that failed by it.
        In place of a signature the keys go as they are: the dictionary may be lost as well.
        """
        flat = np.require(keys, np.uint64, ["C"])
        if failed.packed is None or self._dictionary is None:
            return self._plain(failed.signature, flat)
        if failed.packed.epoch == self._dictionary.epoch:
            self._dictionary.restart()
        return self._in_full(failed.signature, flat)

    def _in_full(self, name: bytes, keys: np.ndarray) -> Sent:
        packed = None if self._dictionary is None else self._dictionary.pack(keys)
        if packed is None:
            return self._plain(name, keys)
        self._remember(name, packed[1], keys.nbytes)
        return Sent(KeyMessage(name, packed=packed[0]), packed[1])

    def _plain(self, name: bytes, keys: np.ndarray) -> Sent:
        self._remember(name, None, keys.nbytes)
        return Sent(KeyMessage(name, keys=keys), None)

    def _remember(self, name: bytes, order: np.ndarray | None, nbytes: int) -> None:
        if not name:
            return
        self._forget(name)
        self._lists[name] = order, nbytes
        self._bytes += nbytes
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._lists)))

    def _forget(self, name: bytes) -> None:
        if name in self._lists:
            self._bytes -= self._lists.pop(name)[1]


class KeyListCache:
    """Key lists by signature, up to `max_bytes` of keys; the ones used longest ago leave first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._lists: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lists)

    def get(self, name: bytes) -> np.ndarray | None:
        """Return the list of this signature; it must not be changed."""
        keys = self._lists.get(name)
        if keys is not None:
            self._lists.move_to_end(name)
        return keys

    def put(self, name: bytes, keys: np.ndarray) -> None:
        """Remember a list, in place of older ones."""
        before = self._lists.pop(name, None)
        self.nbytes += keys.nbytes - (0 if before is None else before.nbytes)
        self._lists[name] = keys
        while self.nbytes > self.max_bytes:
            self.nbytes -= self._lists.popitem(last=False)[1].nbytes


class KeyReceiver:
    """A shard's side, for all its clients.

    Lists are shared among clients; each client's dictionary is its own, and the one used longest
    ago is given up when all together pass `max_dictionary_bytes`.
    """

    def __init__(
        self, *, max_list_bytes: int = 1 << 28, max_dictionary_bytes: int = 1 << 29
    ) -> None:
        self.lists = KeyListCache(max_list_bytes)
        self.max_dictionary_bytes = max_dictionary_bytes
        self._tables: OrderedDict[str, KeyTable] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all lists and dictionaries."""
        return self.lists.nbytes + sum(table.nbytes for table in self._tables.values())

    def receive(self, client: str, message: KeyMessage) -> np.ndarray | None:
        """Return the keys uint64 (n,), not to be changed; None: ask the client to `resend`.

        `client` is any name that no other client has.
        """
        keys = message.keys
        if message.packed is not None:
            keys = self._unpacked(client, message.packed)
        elif keys is None:
            return self.lists.get(message.signature)
        if keys is not None and message.signature:
            self.lists.put(message.signature, keys)
        return keys

    def forget(self, client: str) -> None:
        """Give up the dictionary of a client that has ended."""
        self._tables.pop(client, None)

    def _unpacked(self, client: str, packed: PackedKeys) -> np.ndarray | None:
        table = self._tables.setdefault(client, KeyTable())
        self._tables.move_to_end(client)
        keys = table.unpack(packed)
        while len(self._tables) > 1 and self._dictionary_bytes() > self.max_dictionary_bytes:
            self._tables.popitem(last=False)
        return keys

    def _dictionary_bytes(self) -> int:
        return sum(table.nbytes for table in self._tables.values())
