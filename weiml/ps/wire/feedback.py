"""Pushes made small: the largest rows, rounded; what that leaves out goes with later pushes.

What a push leaves out is added to the key's next one (error feedback: Seide, Fu, Droppo, Li and Yu,
"1-bit stochastic gradient descent", Interspeech 2014; Karimireddy, Rebjock, Stich and Jaggi, "Error
feedback fixes SignSGD and other gradient compression schemes", ICML 2019), so that the sum of all
that was sent is never further than one rounding from the sum of all that was given, and `flush`
takes most of that away. Sending the largest rows only is the
same with a coarser rounding: a row held back is one rounded to nothing.

It knows neither shards nor the network. Rows are rounded before they are split, so what arrives
does not depend on the number of shards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numba
import numpy as np

from weiml.ps.wire.codecs import Encoded, decode, encode
from weiml.ps.wire.config import Codec, WireConfig
from weiml.ps.wire.rests import Rests

__all__ = ["Compressor", "EncodedPush"]

_EXACT: tuple[Codec, ...] = ("float32", "float32", "float32")
_ROUNDED: tuple[Codec, ...] = ("bfloat16", "bfloat16", "bfloat16")

# What is left of a number that was not too large to be sent; with int8 differences go as float8.
_LARGEST_ROUNDING = {"float16": 32.0, "float8": 8192.0, "int8": 8192.0}

What: TypeAlias = Literal["gradients", "differences"]


@dataclass(frozen=True)
class EncodedPush:
    """One push on the wire, for one table."""

    keys: np.ndarray
    """uint64 (m,)."""
    rows: np.ndarray | None
    """int64 (m,): the places of `keys` in what was given; None: all of it, or none of it."""
    values: Encoded
    """(m, dim) or (m, width)."""
    counts: Encoded | None = None
    """(m, 1): examples per key."""
    squares: Encoded | None = None
    """(m, dim): Σg² per key."""

    @property
    def nbytes(self) -> int:
        """Bytes of the rows, keys not counted."""
        parts = (self.values, self.counts, self.squares)
        return sum(part.nbytes for part in parts if part is not None)

    def take(self, places: np.ndarray | slice) -> EncodedPush:
        """Return the part of some keys, in the order asked for."""
        return EncodedPush(
            self.keys[places],
            None if self.rows is None else self.rows[places],
            self.values.take(places),
            None if self.counts is None else self.counts.take(places),
            None if self.squares is None else self.squares.take(places),
        )


class _Kind(NamedTuple):
    """Pushes that share their rests: of one table, with the same parts."""

    table: str
    what: What
    dim: int
    counts: bool
    squares: bool

    @property
    def width(self) -> int:
        return self.dim + self.counts + self.dim * self.squares


class Compressor:
    """One client's pushes, rounded and held back as its `WireConfig` says.

    Gradients are rounded to the nearest. Counts, Σg² and differences are rounded towards zero, so
    that what is left has their sign and no sum of squares on a shard ever falls below zero.

    Example:
        >>> compressor = Compressor(WireConfig(push="bfloat16"))
        >>> keys, values = np.array([7], np.uint64), np.full((1, 2), 1 / 3, np.float32)
        >>> [push] = compressor.compress("t", "gradients", keys, values)
        >>> [rest] = [push for _, _, push in compressor.flush()]
        >>> bool(np.allclose(decode(push.values) + decode(rest.values), 1 / 3, atol=1e-5))
        True
    """

    def __init__(self, config: WireConfig) -> None:
        self.config = config
        self._rests: dict[_Kind, Rests] = {}

    @property
    def num_rows(self) -> int:
        """Rows of which something may be left to send."""
        return sum(len(rests) for rests in self._rests.values())

    @property
    def nbytes(self) -> int:
        """Bytes that the rests take."""
        return sum(rests.nbytes for rests in self._rests.values())

    @property
    def dropped(self) -> float:
        """Sum of the magnitudes of all rests of rounding dropped since the start."""
        return sum(rests.dropped for rests in self._rests.values())

    def compress(
        self,
        table: str,
        what: What,
        keys: np.ndarray,
        values: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> list[EncodedPush]:
        """Return what to send of a push: its rows, then any that had to make room, if there are.

        Keys uint64 (n,), finite values float32 (n, dim), counts (n,), squares (n, dim), none of
        which is changed. A repeated key is fine.
        """
        kind = _Kind(table, what, values.shape[1], counts is not None, squares is not None)
        flat = np.require(keys, np.uint64, ["C"])
        parts = [values, None if counts is None else counts[:, None], squares]
        rows = np.concatenate([part for part in parts if part is not None], axis=1)
        if not self.config.compresses:
            return [self._encoded(kind, flat, rows, None)]
        rests = self._rests_of(kind)
        places = None if rests is None else rests.take(flat, rows)
        chosen = self._chosen(rows[:, : kind.dim])
        push = self._encoded(kind, flat, rows, chosen)
        if rests is None or places is None:
            return [push]
        sent = np.full(len(rows), chosen is None)
        if chosen is None:
            rows -= _decoded(push)
        else:
            sent[chosen] = True
            rows[chosen] -= _decoded(push)
        if self.config.push in _LARGEST_ROUNDING:
            sent &= np.abs(rows).max(axis=1, initial=0) <= _LARGEST_ROUNDING[self.config.push]
        late_keys, late_rows = rests.put(flat, places, rows, sent)
        late = [_exact(kind, late_keys, late_rows)] if late_keys.size else []
        return [push, *late]

    def held(self, table: str, what: What, keys: np.ndarray) -> np.ndarray | None:
        """Return what of the keys' pushes is not sent yet, float32 (n, dim); None: nothing.

        Added to a pulled state it gives the state as if all differences had been sent.
        """
        total: np.ndarray | None = None
        for kind, rests in self._rests.items():
            if (kind.table, kind.what) == (table, what):
                rows = rests.read(np.require(keys, np.uint64, ["C"]))
                if rows is not None:
                    part = rows[:, : kind.dim]
                    total = part if total is None else total + part
        return total

    def flush(self) -> Iterator[tuple[str, What, EncodedPush]]:
        """Yield (table, what, push) of all that was not sent, and forget it.

        Rows held back go as they are; rests of rounding as bfloat16, so that what was sent comes to
        what was given within 1/128 of one rounding.
        """
        for kind, rests in self._rests.items():
            keys, rows, held = rests.take_all()
            if held.any():
                yield kind.table, kind.what, _exact(kind, keys[held], rows[held])
            if not held.all():
                rests_of = keys[~held], rows[~held]
                yield kind.table, kind.what, _push(kind, *rests_of, None, _ROUNDED)

    def _rests_of(self, kind: _Kind) -> Rests | None:
        if not self.config.feedback_rows:
            return None
        if kind not in self._rests:
            self._rests[kind] = Rests(kind.width, self.config.feedback_rows)
        return self._rests[kind]

    def _chosen(self, values: np.ndarray) -> np.ndarray | None:
        if self.config.push_fraction == 1 or not len(values):
            return None
        number = math.ceil(self.config.push_fraction * len(values))
        norms = np.asarray(_squared_norms(np.ascontiguousarray(values)))
        limit = np.partition(norms, len(norms) - number)[len(norms) - number]
        return np.asarray(_largest(norms, limit, number))

    def _encoded(
        self, kind: _Kind, keys: np.ndarray, rows: np.ndarray, chosen: np.ndarray | None
    ) -> EncodedPush:
        codec = self.config.push_codec
        codecs = (codec(kind.what), codec("counts"), codec("squares"))
        if chosen is None:
            return _push(kind, keys, rows, None, codecs)
        return _push(kind, keys[chosen], rows[chosen], chosen, codecs)


def _exact(kind: _Kind, keys: np.ndarray, rows: np.ndarray) -> EncodedPush:
    return _push(kind, keys, rows, None, _EXACT)


def _push(
    kind: _Kind,
    keys: np.ndarray,
    rows: np.ndarray,
    places: np.ndarray | None,
    codecs: Sequence[Codec],
) -> EncodedPush:
    dim = kind.dim
    sums = kind.what == "differences"
    squares_at = dim + kind.counts
    counts, squares = rows[:, dim:squares_at], rows[:, squares_at:]
    return EncodedPush(
        keys,
        places,
        encode(rows[:, :dim], codecs[0], toward_zero=sums),
        encode(counts, codecs[1], toward_zero=True) if kind.counts else None,
        encode(squares, codecs[2], toward_zero=True) if kind.squares else None,
    )


def _decoded(push: EncodedPush) -> np.ndarray:
    parts = [part for part in (push.values, push.counts, push.squares) if part is not None]
    return np.concatenate([decode(part) for part in parts], axis=1)


@numba.njit(cache=True, nogil=True)
def _squared_norms(values: np.ndarray) -> np.ndarray:
    out = np.empty(values.shape[0], np.float32)
    for i in range(values.shape[0]):
        total = np.float32(0)
        for c in range(values.shape[1]):
            total += values[i, c] * values[i, c]
        out[i] = total
    return out


@numba.njit(cache=True, nogil=True)
def _largest(norms: np.ndarray, limit: np.float32, number: int) -> np.ndarray:
    """Return the places of the `number` largest, ascending; of those at `limit` the first."""
    spare = number
    for i in range(norms.size):
        spare -= norms[i] > limit
    out = np.empty(number, np.int64)
    at = 0
    for i in range(norms.size):
        take = norms[i] > limit
        if norms[i] == limit and spare > 0:
            take = True
            spare -= 1
        if take:
            out[at] = i
            at += 1
    return out
