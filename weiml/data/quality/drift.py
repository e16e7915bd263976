"""How far two statistics differ, feature by feature: PSI, L-infinity, Jensen-Shannon.

With a and b the shares of the same bins in the reference and in what is compared:

    PSI = Σ (b − a) ln(b / a)           shares below 10⁻⁴ are taken as 10⁻⁴
    L∞  = max |b − a|
    JS  = ½ Σ a log₂(a / m) + ½ Σ b log₂(b / m),  m = (a + b) / 2      in [0, 1]

Bins of numbers lie between the reference's quantiles, piles of equal numbers apart; those of other
features are the most frequent values of both sides, one for the rest, and one for values that are
new, which is told only while the reference's values are all kept. Missing values are a bin of their
own. Customary bounds:
PSI under 0.1 no change, 0.1 to 0.25 some, above 0.25 a great one (as of credit scoring; N. Siddiqi,
"Credit Risk Scorecards", 2006); L∞ 0.05 to 0.1; JS 0.05. JS is the square of the distance of
D. M. Endres and J. E. Schindelin (2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weiml.data.quality.columns import ColumnStatistics
from weiml.data.quality.statistics import TableStatistics
from weiml.errors import ConfigError
from weiml.features.transforms.distribution import Distribution

__all__ = ["Drift", "bin_labels", "compare", "jensen_shannon", "l_infinity", "psi"]

_FLOOR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far one feature is from its reference."""

    feature: str
    psi: float
    l_infinity: float
    jensen_shannon: float
    worst_bin: str
    """The bin whose share differs most."""
    reference_share: float
    """The share of that bin in the reference."""
    share: float
    exact: bool
    """Whether all counts behind it are true; else the rest may hide frequent values."""


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Return the population stability index of two distributions ``(bins,)``, in nats."""
    a, b = np.maximum(reference, _FLOOR), np.maximum(current, _FLOOR)
    return float(np.sum((b - a) * np.log(b / a)))


def l_infinity(reference: np.ndarray, current: np.ndarray) -> float:
    """Return the largest difference of two shares."""
    return float(np.max(np.abs(current - reference), initial=0.0))


def jensen_shannon(reference: np.ndarray, current: np.ndarray) -> float:
    """Return the Jensen-Shannon divergence of two distributions, in bits: 0 to 1."""
    middle = (reference + current) / 2
    return (_kullback_leibler(reference, middle) + _kullback_leibler(current, middle)) / 2


def _kullback_leibler(a: np.ndarray, b: np.ndarray) -> float:
    seen = a > 0
    return float(np.sum(a[seen] * np.log2(a[seen] / b[seen])))


def compare(
    reference: TableStatistics, current: TableStatistics, *, bins: int = 10, top: int = 100
) -> list[Drift]:
    """Return the drift of every feature that both sides have, the greatest PSI first.

    Args:
        reference: what is expected, such as the training data or the day before.
        current: what is looked at.
        bins: of numbers, at least 2.
        top: most frequent values of each side that get a bin of their own.

    Raises:
        ConfigError: too few bins or values.
    """
    if bins < 2 or top < 1:
        raise ConfigError(f"bins must be at least 2 and top at least 1, got {bins} and {top}")
    ours, theirs = reference.features(), current.features()
    found = []
    for name in ours:
        if name in theirs and ours[name].type == theirs[name].type:
            drift = _drift(name, ours[name], theirs[name], bins, top)
            if drift is not None:
                found.append(drift)
    return sorted(found, key=lambda drift: (-drift.psi, drift.feature))


def _drift(
    name: str, reference: ColumnStatistics, current: ColumnStatistics, bins: int, top: int
) -> Drift | None:
    if not reference.count or not current.count:
        return None
    exact = True
    if _has_numbers(reference) or _has_numbers(current):
        labels, a, b = _number_shares(reference, current, bins)
    elif reference.values is not None or current.values is not None:
        labels, a, b = _value_shares(reference, current, top)
        exact = all(side.values is None or side.values.exact for side in (reference, current))
    else:
        labels, a, b = [], np.empty(0), np.empty(0)
    labels = [*labels, "missing"]
    a = np.append(a, reference.missing_share)
    b = np.append(b, current.missing_share)
    worst = int(np.argmax(np.abs(b - a)))
    return Drift(
        feature=name,
        psi=psi(a, b),
        l_infinity=l_infinity(a, b),
        jensen_shannon=jensen_shannon(a, b),
        worst_bin=labels[worst],
        reference_share=float(a[worst]),
        share=float(b[worst]),
        exact=exact,
    )


def _has_numbers(column: ColumnStatistics) -> bool:
    numbers = column.numbers or column.lengths
    return numbers is not None and numbers.count > 0


def _number_shares(
    reference: ColumnStatistics, current: ColumnStatistics, bins: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the bins between the quantiles of the reference, or of the other if it has none."""
    base = reference if _has_numbers(reference) else current
    numbers = base.numbers or base.lengths
    assert numbers is not None
    edges = _edges(numbers.sketch.distribution(), bins)
    shares = [_bin_shares(side, edges) for side in (reference, current)]
    return [*bin_labels(edges), "infinite"], shares[0], shares[1]


def _edges(seen: Distribution, bins: int) -> np.ndarray:
    """Return the right ends of all bins but the last, rising: quantiles of the reference.

    A pile of equal values (more than a bin's share of them) and the least value have an edge just
    below too: they are bins of their own, and what falls below them is seen.
    """
    edges = np.unique(seen.quantiles(np.arange(1, bins) / bins))
    below = np.nextafter(edges, -np.inf)
    piles = (seen.cdf(edges) - seen.cdf(below) > 1 / bins) | (edges == seen.min)
    return np.unique(np.concatenate([edges, below[piles]]))


def bin_labels(edges: np.ndarray) -> list[str]:
    """Return the bins as intervals; one that ends just below a pile is open at its right end."""
    just_below = np.nextafter(edges[1:], -np.inf) == edges[:-1]
    open_ends = np.append(just_below, False)[: len(edges)]
    marks = [f"{edge:.6g}" for edge in edges]
    shown = [
        (f"{marks[i + 1]})", f"[{marks[i + 1]}") if end else (f"{marks[i]}]", f"({marks[i]}")
        for i, end in enumerate(open_ends)
    ]
    lefts = ["(-∞", *(left for _, left in shown)]
    rights = [*(right for right, _ in shown), "∞)"]
    return [f"{left}, {right}" for left, right in zip(lefts, rights, strict=True)]


def _bin_shares(column: ColumnStatistics, edges: np.ndarray) -> np.ndarray:
    numbers = column.numbers or column.lengths
    if numbers is None or not numbers.count:
        return np.zeros(len(edges) + 2)
    ends = np.concatenate([[0.0], numbers.sketch.cdf(edges), [1.0]])
    counts = np.append(np.diff(ends) * numbers.count, numbers.infinite)
    return counts / column.count


def _value_shares(
    reference: ColumnStatistics, current: ColumnStatistics, top: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    sides = [dict(side.values.top(1 << 30)) if side.values else {} for side in (reference, current)]
    ranked = [
        [value for value, _ in side.values.top(top)] if side.values else []
        for side in (reference, current)
    ]
    # While the reference's values are all kept, those that it lacks are new, and one bin together.
    complete = reference.values is None or reference.values.exact
    old = sides[0].keys() if complete else sides[0].keys() | sides[1].keys()
    labels = [label for label in dict.fromkeys([*ranked[0], *ranked[1]]) if label in old]
    shares = []
    for column, counts in zip((reference, current), sides, strict=True):
        known = np.array([counts.get(label, 0) for label in labels], np.float64) / column.count
        new = sum(n for value, n in counts.items() if value not in old) / column.count
        rest = max(1.0 - column.missing_share - known.sum() - new, 0.0)
        shares.append(np.array([*known, rest, new]))
    return [*map(repr, labels), "all other values", "all new values"], shares[0], shares[1]
