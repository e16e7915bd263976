"""What a function's body is called with on a shard, and how its partial answers become one.

Three levels: a whole shard, the rows of called keys, all rows of a table bucket by bucket. It knows
the view of a shard, not how functions are registered or sent.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.functions.partials import combine_buckets, join_partials
from weiml.ps.functions.shard_view import ShardView

__all__ = ["Body", "Level", "LevelRules", "Sees", "level_for"]

Level: TypeAlias = Literal["shard", "rows", "buckets"]
Sees: TypeAlias = Literal["state", "weights", "addresses"]
Places: TypeAlias = Sequence[np.ndarray | None] | None


class Body(Protocol):
    """What the levels need to know of a function."""

    @property
    def kind(self) -> Literal["get", "update"]:
        """Whether it reads or writes."""

    @property
    def body(self) -> Callable[..., Any]:
        """What the user wrote."""

    @property
    def sees(self) -> Sees:
        """In which form it gets rows."""

    @property
    def missing(self) -> Literal["insert", "skip"]:
        """What happens to called keys without a row."""

    @property
    def merge_all(self) -> Callable[[list[Any]], Any] | None:
        """What makes one answer of partial ones."""


class LevelRules(abc.ABC):
    """How functions of one level are run and their answers merged."""

    given: ClassVar[tuple[str, ...]]
    """The body's first arguments, which the shard provides."""
    shown: ClassVar[tuple[str, ...]]
    """The caller's first arguments, in their stead."""

    @abc.abstractmethod
    def run(self, function: Body, view: ShardView, arguments: tuple[Any, ...]) -> Any:
        """Return one shard's partial answer."""

    def merge(self, function: Body, partials: list[Any], places: Places) -> Any:
        """Return the answer; see `PsFunction.merge`."""
        assert function.merge_all is not None, "a get without merge"
        return function.merge_all(partials)


class _OverShard(LevelRules):
    given = ("view",)
    shown = ()

    def run(self, function: Body, view: ShardView, arguments: tuple[Any, ...]) -> Any:
        return function.body(view, *arguments)


class _OverRows(LevelRules):
    given = ("config", "keys", "rows")
    shown = ("table",)

    def run(self, function: Body, view: ShardView, arguments: tuple[Any, ...]) -> Any:
        table, keys, *rest = arguments
        own = np.require(keys, np.uint64, ["C", "W"])
        if function.kind == "get":
            rows = _rows(function.sees, view, table, own)
            return function.body(view.table(table).config, own, rows, *rest)
        if function.missing == "skip":
            present = view.find_rows(table, own) != 0
            rest = [_cut(argument, present) for argument in rest]
            own = own[present]
        self._update(function, view, table, own, rest)
        return None

    def _update(
        self, function: Body, view: ShardView, table: str, keys: np.ndarray, rest: list[Any]
    ) -> None:
        config = view.table(table).config
        if function.sees == "addresses":
            insert = function.missing == "insert"
            addresses = view.rows_to_train(table, keys, insert=insert)
            function.body(config, keys, addresses, *rest)
            return
        if len(np.unique(keys)) < len(keys):
            raise ParameterServerError(
                f"table {table!r}: the keys repeat; a function that returns new states needs "
                f"distinct keys (weiml.ps.unique_keys makes them)"
            )
        state = view.read_rows(table, keys)
        _store(view, table, keys, state, function.body(config, keys, state.copy(), *rest))

    def merge(self, function: Body, partials: list[Any], places: Places) -> Any:
        """Return the merged answer, or without a merge the rows in the order of the keys."""
        if function.merge_all is not None:
            return function.merge_all(partials)
        if not partials:
            return np.empty(0, np.float32)
        if places is None or places[0] is None:
            return partials[0]
        rows = np.concatenate([np.asarray(partial) for partial in partials])
        order = np.concatenate([place for place in places if place is not None])
        if len(rows) != len(order):
            raise ParameterServerError(
                f"a function over rows without merge= must answer one row a key, got {len(rows)} "
                f"rows for {len(order)} keys"
            )
        out = np.empty_like(rows)
        out[order] = rows
        return out


class _OverBuckets(LevelRules):
    given = ("config", "keys", "rows")
    shown = ("table",)

    def run(self, function: Body, view: ShardView, arguments: tuple[Any, ...]) -> Any:
        table, *rest = arguments
        if function.kind == "update":
            self._update(function, view, table, rest)
            return None
        config = view.table(table).config

        def answer(own: np.ndarray, state: np.ndarray) -> Any:
            if not len(own):
                return None
            rows = state if function.sees == "state" else _rows(function.sees, view, table, own)
            return function.body(config, own, rows, *rest)

        found = (answer(own, state) for _, own, state in view.scan_rows(table))
        return combine_buckets(view.buckets, found, view.num_buckets, _in_pairs(function))

    def _update(self, function: Body, view: ShardView, table: str, rest: list[Any]) -> None:
        config = view.table(table).config
        for _, own, state in view.scan_rows(table):
            if not len(own):
                continue
            if function.sees == "addresses":
                addresses = view.rows_to_train(table, own, insert=False)
                function.body(config, own, addresses, *rest)
                continue
            _store(view, table, own, state, function.body(config, own, state.copy(), *rest))

    def merge(self, function: Body, partials: list[Any], places: Places) -> Any:
        """Return the answer over all buckets, combined in one fixed order."""
        assert function.merge_all is not None, "a get without merge"
        answer = join_partials(partials, _in_pairs(function))
        return function.merge_all([] if answer is None else [answer])


_LEVELS: dict[Level, LevelRules] = {
    "shard": _OverShard(),
    "rows": _OverRows(),
    "buckets": _OverBuckets(),
}


def level_for(level: Level) -> LevelRules:
    """Return the rules of a level."""
    return _LEVELS[level]


def _rows(sees: Sees, view: ShardView, table: str, keys: np.ndarray) -> np.ndarray:
    if sees == "addresses":
        return view.find_rows(table, keys)
    if sees == "weights":
        return view.table(table).pull_weights(keys)
    return view.read_rows(table, keys)


def _store(
    view: ShardView, table: str, keys: np.ndarray, state: np.ndarray, new: np.ndarray
) -> None:
    """Set the rows whose state is new."""
    view.check_state(table, keys, new)
    differs = (new != state).any(axis=1)
    if differs.any():
        view.write_rows(table, keys[differs], new[differs])


def _cut(argument: Any, chosen: np.ndarray) -> Any:
    aligned = isinstance(argument, np.ndarray) and argument.shape[:1] == chosen.shape
    return argument[chosen] if aligned else argument


def _in_pairs(function: Body) -> Callable[[Any, Any], Any]:
    merge = function.merge_all
    assert merge is not None, "a get without merge"
    return lambda left, right: merge([left, right])
