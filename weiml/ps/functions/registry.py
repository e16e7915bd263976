"""Functions that run on the shards: how they are registered by name, and found again.

A function is registered in every process by importing the module that defines it. Only its name and
its arguments travel. This module knows nothing of how they do; docs/ps-functions.md shows the use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from weiml.config import nearest
from weiml.errors import ConfigError, ParameterServerError
from weiml.ps.functions.levels import Level, Sees
from weiml.ps.functions.partials import Partials
from weiml.ps.functions.ps_function import Merge, PsFunction, Split
from weiml.ps.functions.shard_view import ShardView

__all__ = [
    "ELEMENTWISE",
    "FUNCTIONS",
    "Partials",
    "PsFunction",
    "ShardView",
    "elementwise",
    "find_elementwise",
    "find_function",
    "get_function",
    "load_function_modules",
    "update_function",
]

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

_BUILT_IN = ("weiml.ps.functions.vector_functions", "weiml.ps.functions.table_functions")

FUNCTIONS: dict[str, PsFunction] = {}
ELEMENTWISE: dict[str, Callable[..., Any]] = {}


def get_function(
    name: str,
    *,
    merge: Merge | None = None,
    level: Level = "shard",
    sees: Sees = "state",
    finish: Callable[[Any], Any] | None = None,
    split: Split | None = None,
) -> Callable[[F], F]:
    """Register a function that reads.

    What it is called with depends on `level`:

    - "shard": ``body(view, *arguments)``, once a shard, anything of it; see `ShardView`.
    - "rows": ``body(config, keys, rows, *arguments)`` for the called keys of table ``config.name``
      that the shard holds. Arguments that are arrays as long as the keys come cut alike.
    - "buckets": the same for all rows of a table, bucket by bucket, empty ones left out.

    `rows` is what `sees` says: "state", float32 (n, width), a missing row being what it would start
    with; "weights", float32 (n, dim), those that are served; or "addresses", int64 (n,), for
    compiled loops that use `weiml.ps.rows.memory.floats(address, width)`, 0 for a missing row.

    `merge` makes one answer of a list of partial ones. For "buckets" it gets two at a time and must
    not mind how they are grouped, then a list of the one that is left, empty if there are no rows.
    It may be left out for "rows": then the body gives one row of an array a key, and they come in
    the keys' order. `finish` makes the answer of what was merged, as a mean is made of a sum and a
    count.

    `split(arguments, buckets, num_buckets)` returns the arguments for a shard with these buckets,
    for arguments with one element a number of a vector (`weiml.ps.partition.vector_places`).

    Raises:
        ConfigError: another function has that name, or a merge is missing.
    """
    if merge is None and level != "rows":
        raise ConfigError(f"function {name!r} over {level} needs merge=, which joins the answers")

    def register(body: F) -> F:
        function = PsFunction(
            name=name,
            kind="get",
            body=body,
            level=level,
            sees=sees,
            merge_all=merge,
            finish=finish,
            split=split,
        )
        _register(FUNCTIONS, name, function)
        return body

    return register


def update_function(
    name: str,
    *,
    level: Level = "shard",
    sees: Sees = "state",
    missing: Literal["insert", "skip"] = "insert",
    split: Split | None = None,
) -> Callable[[F], F]:
    """Register a function that writes; levels as for `get_function`.

    Over rows or buckets with `sees` = "state" the body returns the new state, float32 (n, width),
    and only rows that differ count as changed; called keys must be distinct. With "addresses" it
    changes the rows in place, and all of them count as pushed to. `missing` says whether called
    keys without a row get one first.

    Raises:
        ConfigError: another function has that name, or `sees` is "weights".
    """
    if sees == "weights":
        raise ConfigError(
            f"function {name!r}: weights are read only, the optimizer makes them of the state; "
            f"update sees='state' or 'addresses'"
        )

    def register(body: F) -> F:
        function = PsFunction(
            name=name,
            kind="update",
            body=body,
            level=level,
            sees=sees,
            missing=missing,
            split=split,
        )
        _register(FUNCTIONS, name, function)
        return body

    return register


def elementwise(name: str) -> Callable[[F], F]:
    """Register a function for the built-in ``map``: float32 arrays (n,) to one (n,).

    A numpy expression, a ufunc of ``numba.vectorize`` or a compiled function of arrays. It is
    called on pieces, so every element must depend on those at the same place only.

    Raises:
        ConfigError: another function has that name.
    """

    def register(body: F) -> F:
        function: Callable[..., Any] = body
        _register(ELEMENTWISE, name, function)
        return body

    return register


def find_function(name: str) -> PsFunction:
    """Return the function registered under `name`.

    Raises:
        ParameterServerError: there is none; the message names the nearest.
    """
    return _find(FUNCTIONS, "function", name)


def find_elementwise(name: str) -> Callable[..., Any]:
    """Return the elementwise function registered under `name`; raises like `find_function`."""
    return _find(ELEMENTWISE, "elementwise function", name)


def load_function_modules(names: Iterable[str]) -> None:
    """Import the modules that register a group's functions; the built-in ones always are.

    Raises:
        ConfigError: a module is missing or fails while it is imported.
    """
    for name in (*_BUILT_IN, *names):
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"function_modules: module {name!r} cannot be imported "
                f"({type(error).__name__}: {error}); it must be importable by name in every "
                f"process of the group, as a package or by Ray's working_dir or py_modules"
            ) from error


def _register(registry: dict[str, R], name: str, entry: R) -> None:
    if not name.isidentifier():
        raise ConfigError(f"function name {name!r} must be a word of letters, digits and '_'")
    if getattr(_code(entry), "__module__", "") not in _BUILT_IN:
        load_function_modules(())  # their names are taken
    known = registry.get(name)
    if known is not None and not _is_again(_code(known), _code(entry)):
        raise ConfigError(
            f"function {name!r} is registered already, by {_origin(_code(known))}; "
            f"{_origin(_code(entry))} needs another name"
        )
    registry[name] = entry


def _code(entry: Any) -> Any:
    return entry.body if isinstance(entry, PsFunction) else entry


def _is_again(known: Any, new: Any) -> bool:
    """Whether a notebook's cell was run again, or a module was loaded again."""
    if known is new:
        return True
    again = _origin(known) == _origin(new)
    return again and (new.__module__ == "__main__" or _line(known) == _line(new))


def _line(body: Any) -> tuple[str, int]:
    code = getattr(body, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("", id(body))


def _origin(body: Any) -> str:
    return f"{getattr(body, '__module__', '?')}.{getattr(body, '__qualname__', repr(body))}"


def _find(registry: dict[str, R], what: str, name: str) -> R:
    if name not in registry:
        load_function_modules(())
    if name not in registry:
        raise ParameterServerError(
            f"there is no {what} {name!r}{nearest(name, registry)}; functions of your own are "
            f"registered by modules named in GroupConfig(function_modules=(…)), on the shards and "
            f"on the client"
        )
    return registry[name]
