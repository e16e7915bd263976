"""Updates of served models: numbered deltas and feedback events, merged and applied in order.

Plain data and a plain class; how updates travel is the business of params.py.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps import Delta

__all__ = [
    "Applies",
    "Events",
    "Follower",
    "Offer",
    "Update",
    "merge_deltas",
    "merge_updates",
]

Events = Mapping[str, list[Any]]
"""Columns of feedback events, by name: the columns that the feature view observes."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What happened in the sequence numbers ``first .. last``, both included.

    Deltas hold absolute weights, so that applying one twice is harmless; events are counted, so
    each batch of them keeps its own number and is applied once.
    """

    epoch: str
    """Identity of the hub; another one means that numbers start over."""
    first: int
    last: int
    deltas: Mapping[str, Delta] = field(default_factory=dict)
    """Rows and vectors that changed, by model."""
    events: tuple[tuple[int, Events], ...] = ()
    published_at: float = 0.0
    """Unix time at which number `last` was published."""


class Offer(Enum):
    """What became of an update that was offered to a follower."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    GAP = "gap"
    """Something before it is missing: nothing was applied; ask again from `sequence`."""
    NEW_EPOCH = "new_epoch"
    """It comes from another hub: reload the snapshot, `reset`, and ask from 0."""


class Applies(Protocol):
    """What a follower moves: a `Servable`, or a double in tests."""

    def apply_delta(self, model: str, delta: Delta) -> None:
        """Replace the rows and vectors of one model that the delta holds."""

    def observe(self, events: Events) -> None:
        """Count feedback events."""


class Follower:
    """Applies updates to a target in order, each once, whatever order they come in.

    Not safe for threads: called on the event loop that scores, so no request sees half an update.
    """

    def __init__(self, target: Applies) -> None:
        self._target = target
        self.epoch: str | None = None
        self.sequence = 0
        self.published_at = 0.0
        self.applied_at = 0.0

    def offer(self, update: Update) -> Offer:
        """Apply `update` if it continues what was applied so far; see `Offer`."""
        if self.epoch is not None and update.epoch != self.epoch:
            return Offer.NEW_EPOCH
        if update.last <= self.sequence:
            self.epoch = update.epoch
            return Offer.DUPLICATE
        if update.first > self.sequence + 1:
            return Offer.GAP
        for model, delta in update.deltas.items():
            self._target.apply_delta(model, delta)
        for number, events in update.events:
            if number > self.sequence:
                self._target.observe(events)
        self.epoch = update.epoch
        self.sequence = update.last
        self.published_at = update.published_at
        self.applied_at = time.time()
        return Offer.APPLIED

    def reset(self, target: Applies) -> None:
        """Start over with a target that is at its snapshot."""
        self._target = target
        self.epoch, self.sequence = None, 0
        self.published_at = self.applied_at = 0.0


def merge_updates(updates: Iterable[Update]) -> Update:
    """Merge consecutive updates into one with the same effect."""
    parts = list(updates)
    for before, after in itertools.pairwise(parts):
        if after.first != before.last + 1:
            raise ParameterServerError(
                f"updates {before.first}..{before.last} and {after.first}..{after.last} "
                "do not follow each other"
            )
    if len(parts) == 1:
        return parts[0]
    deltas: dict[str, list[Delta]] = {}
    for part in parts:
        for model, delta in part.deltas.items():
            deltas.setdefault(model, []).append(delta)
    return Update(
        epoch=parts[-1].epoch,
        first=parts[0].first,
        last=parts[-1].last,
        deltas={model: merge_deltas(found) for model, found in deltas.items()},
        events=tuple(batch for part in parts for batch in part.events),
        published_at=parts[-1].published_at,
    )


def merge_deltas(deltas: Iterable[Delta]) -> Delta:
    """Merge deltas in order: of a row or vector that several hold, the newest stays.

    A row's deletion is news of it like its weights; a full delta makes all before it void.
    """
    parts = list(deltas)
    last_full = max((i for i, part in enumerate(parts) if part.full), default=0)
    counting = parts[last_full:]
    vectors: dict[str, np.ndarray] = {}
    for part in counting:
        vectors.update(part.vectors)
    names = {name: None for part in counting for name in (*part.tables, *part.deleted)}
    tables, deleted = {}, {}
    for name in names:
        keys, weights, gone = _newest(name, counting)
        tables[name] = (keys[~gone], weights[~gone])
        if gone.any():
            deleted[name] = keys[gone]
    return Delta(
        since=parts[0].since,
        cut=parts[-1].cut,
        tables=tables,
        vectors=vectors,
        deleted=deleted,
        full=any(part.full for part in parts),
    )


def _newest(name: str, parts: list[Delta]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each key's newest (key, weights, whether its row is gone)."""
    keys, weights, gone = [], [], []
    for part in parts:
        own_keys, own_weights = part.tables.get(name, (np.empty(0, np.uint64), None))
        gone_keys = part.deleted.get(name, np.empty(0, np.uint64))
        dim = next(p.tables[name][1].shape[1] for p in parts if name in p.tables)
        keys += [own_keys, gone_keys]
        rows = np.empty((0, dim), np.float32) if own_weights is None else own_weights
        weights += [rows, np.zeros((len(gone_keys), dim), np.float32)]
        gone += [np.zeros(len(own_keys), bool), np.ones(len(gone_keys), bool)]
    # The first of equal keys in reversed order is the newest.
    distinct, index = np.unique(np.concatenate(keys)[::-1], return_index=True)
    return distinct, np.concatenate(weights)[::-1][index], np.concatenate(gone)[::-1][index]
