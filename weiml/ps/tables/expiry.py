"""Which rows have had their time: not seen for long, of no weight, or of no interest any more.

It knows the words of rows, not tables: it looks at rows by their addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.ps.rows.memory import load_f32, load_u32, store_f32

if TYPE_CHECKING:
    from weiml.ps.tables.layout import RowLayout

__all__ = ["Expiry", "ExpiryConfig", "last_seen", "squared_norms"]


@dataclass(frozen=True, kw_only=True)
class ExpiryConfig:
    """A row goes when any of the rules that are set says so; `expire` runs them."""

    ttl: int | None = None
    """Delete rows last seen more than so many units ago; needs the statistic last_seen."""
    unit: Literal["steps", "seconds"] = "steps"
    """What ttl and last_seen are counted in: steps of training, or seconds of the shard's clock."""
    min_norm: float | None = None
    """Delete rows whose weights have a smaller Euclidean norm."""
    min_score: float | None = None
    """Delete rows with a smaller score ``show_weight (shows - clicks) + click_weight clicks``;
    needs the statistics shows and clicks."""
    show_weight: float = 0.1
    click_weight: float = 1.0
    decay: float = 1.0
    """Shows and clicks are multiplied by it at each run, before the score: above 0, to 1."""

    def __post_init__(self) -> None:
        if self.ttl is None and self.min_norm is None and self.min_score is None:
            raise ConfigError("an expiry needs ttl, min_norm or min_score; none is set")
        if self.unit not in ("steps", "seconds"):
            raise ConfigError(f"unit must be steps or seconds, got {self.unit!r}")
        if self.ttl is not None and self.ttl < 1:
            raise ConfigError(f"ttl must be 1 or more, got {self.ttl}")
        for knob in ("min_norm", "min_score"):
            value = getattr(self, knob)
            if value is not None and not (value > 0 and np.isfinite(value)):
                raise ConfigError(f"{knob} must be a finite number above 0, got {value!r}")
        for knob in ("show_weight", "click_weight"):
            value = getattr(self, knob)
            if not (value >= 0 and np.isfinite(value)):
                raise ConfigError(f"{knob} must be a finite number, 0 or more, got {value!r}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must be above 0 and at most 1, got {self.decay!r}")
        if self.decay < 1 and self.min_score is None:
            raise ConfigError("decay is for rows with a min_score, which is not set")

    def needed_statistics(self) -> dict[str, str]:
        """Return the statistics that the rules look at, each with the knob that needs it."""
        needed = {} if self.ttl is None else {"last_seen": "expiry.ttl"}
        if self.min_score is not None:
            needed |= {"shows": "expiry.min_score", "clicks": "expiry.min_score"}
        return needed


@numba.njit(cache=True, nogil=True)
def _squared_norms(weights: np.ndarray) -> np.ndarray:
    out = np.zeros(weights.shape[0], np.float64)
    for i in range(weights.shape[0]):
        for c in range(weights.shape[1]):
            w = np.float64(weights[i, c])
            out[i] += w * w
    return out


@numba.njit(cache=True, nogil=True)
def _last_seen(addresses: np.ndarray, offset: int) -> np.ndarray:
    out = np.empty(addresses.size, np.int64)
    for i in range(addresses.size):
        out[i] = load_u32(addresses[i] + offset)
    return out


@numba.njit(cache=True, nogil=True)
def _decay(addresses: np.ndarray, offset: int, factor: np.float32) -> None:
    for i in range(addresses.size):
        store_f32(addresses[i] + offset, load_f32(addresses[i] + offset) * factor)


@numba.njit(cache=True, nogil=True)
def _scores(
    addresses: np.ndarray, shows: int, clicks: int, show_weight: float, click_weight: float
) -> np.ndarray:
    out = np.empty(addresses.size, np.float64)
    for i in range(addresses.size):
        clicked = np.float64(load_f32(addresses[i] + clicks))
        passed = np.float64(load_f32(addresses[i] + shows)) - clicked
        out[i] = show_weight * passed + click_weight * clicked
    return out


def squared_norms(weights: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean norms of rows float32 (n, dim): float64 (n,)."""
    return np.asarray(_squared_norms(weights))


def last_seen(addresses: np.ndarray, offset: int) -> np.ndarray:
    """Return the statistic at word `offset` of the rows at `addresses`: int64 (n,)."""
    return np.asarray(_last_seen(addresses, 4 * offset))


class Expiry:
    """The rules of one table, run over rows at addresses."""

    def __init__(self, rules: ExpiryConfig, layout: RowLayout) -> None:
        self.rules = rules
        self._layout = layout

    def now(self, step: int, now_s: float) -> int:
        """Return what a row's last_seen is compared with."""
        return step if self.rules.unit == "steps" else int(now_s)

    def doomed(self, addresses: np.ndarray, now: int) -> np.ndarray:
        """Return which rows are to go, after their shows and clicks have decayed: bool (n,)."""
        rules, layout = self.rules, self._layout
        out = np.zeros(addresses.size, np.bool_)
        if rules.ttl is not None and layout.last_seen is not None:
            out |= now - last_seen(addresses, layout.last_seen) > rules.ttl
        if rules.min_norm is not None:
            out |= squared_norms(layout.weights(addresses)) < rules.min_norm**2
        if rules.min_score is not None and layout.shows is not None and layout.clicks is not None:
            shows, clicks = 4 * layout.shows, 4 * layout.clicks
            if rules.decay < 1:
                _decay(addresses, shows, np.float32(rules.decay))
                _decay(addresses, clicks, np.float32(rules.decay))
            weights = float(rules.show_weight), float(rules.click_weight)
            out |= np.asarray(_scores(addresses, shows, clicks, *weights)) < rules.min_score
        return out
