"""What a client checks of a request's arguments before anything is sent.

Each function raises `ParameterServerError` that names the table or vector and what was got. It
knows no shards.
"""

from __future__ import annotations

import numpy as np

from weiml.errors import GradientError, ParameterServerError
from weiml.ps.kernels import first_not_below
from weiml.ps.tables.sparse import TableConfig

__all__ = [
    "check_ahead",
    "check_choice",
    "check_differences",
    "check_keys",
    "check_least",
    "check_values",
]

_LARGEST_GRADIENT = np.float32(1e18)  # larger ones have no square in float32


def check_choice(verb: str, what: str, choices: tuple[str, ...]) -> None:
    """Raise unless `what` is one of `choices`."""
    if what not in choices:
        raise ParameterServerError(f"{verb}: what must be one of {choices}, got {what!r}")


def check_keys(config: TableConfig, keys: np.ndarray) -> None:
    """Raise unless `keys` is uint64 (n,) and, of a dense table, within its rows."""
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.ndim != 1:
        raise ParameterServerError(
            f"table {config.name!r}: keys must be a uint64 array of one dimension, "
            f"got {_kind(keys)}"
        )
    if config.rows is not None and len(keys) and int(keys.max()) >= config.rows:
        raise ParameterServerError(
            f"table {config.name!r} is dense with rows = {config.rows}, so its keys are 0 … "
            f"{config.rows - 1}; got {int(keys.max())}"
        )


def check_values(
    where: str,
    what: str,
    values: np.ndarray,
    shape: tuple[int, ...],
    keys: np.ndarray | None,
    worker: int | None,
) -> None:
    """Raise unless `values` of a worker (None: an observer) is float32, of `shape`, and finite.

    Gradients must be small enough to be squared, too. `keys` name the rows; None: their places do.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.float32:
        raise ParameterServerError(f"{where}: {what} must be a float32 array, got {_kind(values)}")
    if values.shape != shape:
        raise ParameterServerError(f"{where}: {what} must have shape {shape}, got {values.shape}")
    rows = values.reshape(len(values), shape[1] if len(shape) > 1 else 1)
    limit = _LARGEST_GRADIENT if what == "gradients" else np.float32(np.inf)
    at = first_not_below(np.ascontiguousarray(rows), limit)
    if at >= 0:
        which = f"place {at}" if keys is None else f"key {keys[at]}"
        whose = "an observer" if worker is None else f"worker {worker}"
        finite = np.isfinite(values[at]).all()
        wrong = "too large to be squared in float32" if finite else "not finite"
        raise GradientError(
            f"{where}: {what} of {whose} for {which} are {wrong}: {values[at]}; "
            f"nothing was pushed. Lower the learning rate or look at the example"
        )


def check_least(where: str, what: str, values: np.ndarray, least: float) -> None:
    """Raise unless all `values` are `least` or more."""
    if values.size and values.min() < least:
        raise ParameterServerError(
            f"{where}: {what} must be {least:g} or more, got {values.min():g}; see push()"
        )


def check_ahead(ahead: int) -> None:
    """Raise unless a pull is for this tick or the next."""
    if ahead not in (0, 1):
        raise ParameterServerError(
            f"pull: ahead must be 0, or 1 for a prefetch for the next tick, got {ahead!r}"
        )


def check_differences(config: TableConfig, values: np.ndarray) -> None:
    """Raise unless differences of the table's rows can be added: float32 (n, width)."""
    rule = config.optimizer
    if not rule.sums:
        raise ParameterServerError(
            f"table {config.name!r}: the state of {type(rule).__name__} is not a sum, so "
            f"differences cannot be added; push what='gradients'"
        )
    if rule.squares is None or not values.size:
        return
    sums = values[:, rule.squares * config.dim : (rule.squares + 1) * config.dim]
    if sums.min() < 0:
        raise ParameterServerError(
            f"table {config.name!r}: differences would lower a sum of squares of "
            f"{type(rule).__name__} by {-sums.min():g} (columns {rule.squares * config.dim} to "
            f"{(rule.squares + 1) * config.dim - 1}), which never falls; push the state after the "
            f"step minus the state before it"
        )


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__
