"""What a function that runs on the shards is: arguments checked, run on a shard, answers merged.

It knows a shard by its view, and neither the registry nor how requests travel.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.functions.levels import Level, Sees, level_for
from weiml.ps.functions.shard_view import ShardView

__all__ = ["Merge", "PsFunction", "Split"]

Merge: TypeAlias = Callable[[list[Any]], Any]
Split: TypeAlias = Callable[[tuple[Any, ...], np.ndarray, int], tuple[Any, ...]]

_PLAIN = (bool, int, float, str, np.number, np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class PsFunction:
    """A function that runs on every shard (or on those that hold its keys).

    On a shard ``run(view, *arguments)`` gives a partial answer; on the client ``merge`` makes the
    answer of all of them.
    """

    name: str
    kind: Literal["get", "update"]
    """A get reads and answers; an update writes, acts once, and answers None."""
    body: Callable[..., Any]
    level: Level = "shard"
    """What the body is called with: see `get_function`."""
    sees: Sees = "state"
    missing: Literal["insert", "skip"] = "insert"
    merge_all: Merge | None = None
    finish: Callable[[Any], Any] | None = None
    split: Split | None = None

    def check(self, arguments: Sequence[Any], keys: np.ndarray | None = None) -> None:
        """Raise ParameterServerError unless the arguments fit and can travel.

        Fit are numbers, strings, None, numpy arrays of numbers, and lists and tuples of those.
        """
        _check_plain(self.name, arguments)
        where = f"function {self.name!r}"
        if (keys is not None) != (self.level == "rows"):
            raise ParameterServerError(
                f"{where} is over rows: call it with keys=…"
                if keys is None
                else f"{where} is over all of a shard, not over rows: call it without keys"
            )
        level = level_for(self.level)
        own = [p.replace(annotation=p.empty) for p in _parameters(self.body)[len(level.given) :]]
        named = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in level.shown]
        signature = inspect.Signature(named + own)
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise ParameterServerError(
                f"{where}: {error}; its arguments are {signature}, got {len(arguments)}"
            ) from None

    def part(
        self, arguments: tuple[Any, ...], buckets: np.ndarray, num_buckets: int
    ) -> tuple[Any, ...]:
        """Return the arguments for a shard that holds `buckets` (ascending)."""
        return arguments if self.split is None else self.split(arguments, buckets, num_buckets)

    def run(self, view: ShardView, *arguments: Any) -> Any:
        """Run on one shard and return its partial answer.

        Over rows the arguments are (table, keys uint64 (n,) that the shard holds, …), over buckets
        (table, …).

        Raises:
            ParameterServerError: the function refused its arguments or failed; what a failed update
                had written by then stays.
        """
        try:
            answer = level_for(self.level).run(self, view, arguments)
        except ParameterServerError as error:
            raise ParameterServerError(
                f"function {self.name!r} on shard {view.index}: {error}"
            ) from None
        except Exception as error:
            raise ParameterServerError(
                f"function {self.name!r} failed on shard {view.index}: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            view.settle()
        return answer if self.kind == "get" else None

    def merge(self, partials: list[Any], places: Sequence[np.ndarray | None] | None = None) -> Any:
        """Return the answer that the shards' partial answers make.

        For a function over rows `places` says where in the caller's keys each shard's keys stood
        (None: one shard had them all).
        """
        if self.kind == "update":
            return None
        answer = level_for(self.level).merge(self, partials, places)
        return answer if self.finish is None else self.finish(answer)


def _parameters(body: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(body).parameters.values())


def _check_plain(name: str, arguments: Sequence[Any]) -> None:
    for place, argument in enumerate(arguments):
        if not _is_plain(argument):
            raise ParameterServerError(
                f"function {name!r}: argument {place} must be a number, a string, None, a numpy "
                f"array of numbers or a list of those, since it is sent and kept to be replayed; "
                f"got {type(argument).__name__}"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufSU"
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, _PLAIN)
