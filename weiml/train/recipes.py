"""Training files: which of the three ways to train one asks for, and its knobs.

A file is a `TrainConfig`, and so are its top-level keys, but for two: where its model table's name
is ``gbdt``, that table is a `GBDTConfig`, and a table ``[solver]`` is a `SolverConfig`. Both hold
all that there is to say, so nothing else may stand beside them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from weiml.config import from_mapping, lay_over, parse_overrides
from weiml.errors import ConfigError
from weiml.models.trees.config import GBDTConfig
from weiml.train.config import TrainConfig
from weiml.train.solvers.config import SolverConfig

__all__ = ["TREES", "Recipe", "load_recipe", "read_recipe"]

Recipe: TypeAlias = TrainConfig | GBDTConfig | SolverConfig
"""How something is trained: step by step, round by round, or to the optimum."""

TREES = "gbdt"
_SOLVER = "solver"


def load_recipe(path: str | Path | None, overrides: Iterable[str] = ()) -> Recipe:
    """Read a training file, ``a.b=value`` overrides on top; without a file, these alone.

    Raises:
        ConfigError: the file is missing or malformed, a key is unknown, or a value does not fit.
    """
    if path is None:
        return read_recipe(parse_overrides(overrides), where="--set")
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    return read_recipe(tree, overrides=overrides, where=str(path))


def read_recipe(
    tree: Mapping[str, Any], *, overrides: Iterable[str] = (), where: str = "config"
) -> Recipe:
    """Read what `load_recipe` reads from nested mappings.

    Raises:
        ConfigError: a key is unknown, or a value does not fit.
    """
    whole = lay_over(tree, parse_overrides(overrides))
    model = whole.get("model")
    if _SOLVER in whole:
        solver = _table(whole[_SOLVER], f"{where}: {_SOLVER}")
        if model in ("lr", {"name": "lr"}):  # the one model that solvers know
            del whole["model"]
        _check_alone(whole, _SOLVER, where)
        return from_mapping(SolverConfig, solver, where=f"{where}: {_SOLVER}")
    if model == TREES or (isinstance(model, Mapping) and model.get("name") == TREES):
        _check_alone(whole, "model", where)
        knobs = {} if isinstance(model, str) else {k: v for k, v in model.items() if k != "name"}
        return from_mapping(GBDTConfig, knobs, where=f"{where}: model")
    return from_mapping(TrainConfig, whole, where=where)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a table, got {value!r}")
    return value


def _check_alone(whole: Mapping[str, Any], table: str, where: str) -> None:
    """Raise ConfigError if there are keys beside the table that holds all."""
    others = sorted(key for key in whole if key != table)
    if others:
        what = "boosted trees" if table == "model" else "batch solvers"
        raise ConfigError(
            f"{where}: of {what}, all knobs stand in the table [{table}], got {others[0]!r} beside "
            f"it; write {table}.{others[0]} if it is one of theirs"
        )
