"""Checks of data before it is trained on: bounds on statistics and on their drift."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from weiml.config import nearest
from weiml.data.quality.columns import ColumnStatistics
from weiml.data.quality.constraints import Constraints
from weiml.data.quality.drift import Drift, compare
from weiml.data.quality.findings import Finding
from weiml.data.quality.statistics import TableStatistics
from weiml.errors import ConfigError, DataError

__all__ = ["Bounds", "Checks", "FeatureBounds", "check"]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds on a feature's measures; None leaves a measure unchecked."""

    max_missing: float | None = None
    """Largest share of missing values."""
    max_zero: float | None = None
    """Largest share of zeros."""
    min: float | None = None
    max: float | None = None
    min_distinct: int | None = None
    max_psi: float | None = None
    max_l_infinity: float | None = None
    max_jensen_shannon: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_missing", "max_zero", "max_l_infinity", "max_jensen_shannon"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} must be a share from 0 to 1, got {value}")
        if self.max_psi is not None and self.max_psi < 0:
            raise ConfigError(f"max_psi must not be negative, got {self.max_psi}")


@dataclass(frozen=True, kw_only=True)
class FeatureBounds(Bounds):
    """Bounds on one feature; what is None here is as in the bounds for all."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What data must be like.

    Raises:
        ConfigError: a bound is out of its range, or a feature stands there twice.
    """

    min_rows: int = 1
    all: Bounds = field(default_factory=lambda: Bounds(max_psi=0.25))
    """Bounds on every feature."""
    features: tuple[FeatureBounds, ...] = ()
    ignore: tuple[str, ...] = ()
    """Features that are not checked, such as ids and times."""
    same_columns: bool = True
    """Whether every column of the reference must be there, of the same type."""
    constraints: Constraints | None = None
    bins: int = 10
    """Of numbers, for drift."""

    def __post_init__(self) -> None:
        names = [bounds.name for bounds in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"checks of {twice} stand there more than once")

    def bounds_of(self, name: str) -> Bounds:
        """Return the bounds on one feature."""
        own = next((one for one in self.features if one.name == name), None)
        if own is None:
            return self.all
        merged = {
            bound.name: getattr(self.all, bound.name)
            if getattr(own, bound.name) is None
            else getattr(own, bound.name)
            for bound in fields(Bounds)
        }
        return Bounds(**merged)


def check(
    statistics: TableStatistics, checks: Checks, reference: TableStatistics | None = None
) -> list[Finding]:
    """Return everything that passes a bound; empty if all is well.

    Drift is checked only against a `reference`, such as the data of the day before, or the data
    that the serving model was trained on.

    Raises:
        DataError: `checks` names a feature that is in neither statistics.
    """
    features = statistics.features()
    known = {**features, **(reference.features() if reference else {})}
    for own in checks.features:
        if own.name not in known:
            raise DataError(f"checks name no feature: {own.name!r}{nearest(own.name, known)}")
    found = []
    if statistics.rows < checks.min_rows:
        found.append(_finding("(all)", "rows", statistics.rows, checks.min_rows))
    if checks.constraints is not None:
        found += checks.constraints.check(statistics)
    if reference is not None and checks.same_columns:
        found += _columns(statistics, reference)
    drifts = (
        {d.feature: d for d in compare(reference, statistics, bins=checks.bins)}
        if reference
        else {}
    )
    for name, column in features.items():
        bounds = checks.bounds_of(name)
        found += _own(name, column, bounds) + _drifted(name, drifts.get(name), bounds)
    return [finding for finding in found if finding.feature not in checks.ignore]


def _finding(
    feature: str, measure: str, value: float, threshold: float, detail: str = ""
) -> Finding:
    return Finding(
        feature=feature, measure=measure, value=value, threshold=threshold, detail=detail
    )


def _columns(statistics: TableStatistics, reference: TableStatistics) -> list[Finding]:
    found = []
    features = statistics.features()
    for name, column in reference.features().items():
        if name not in features:
            found.append(_finding(name, "presence", 0.0, 1.0, "the column is gone"))
        elif features[name].type != column.type:
            detail = f"{features[name].type}, was {column.type}"
            found.append(
                Finding(feature=name, measure="type", value=None, threshold=None, detail=detail)
            )
    return found


def _own(name: str, column: ColumnStatistics, bounds: Bounds) -> list[Finding]:
    """Return which of the feature's own measures pass their bounds."""
    measures: list[tuple[str, float | None, float | None, bool]] = [
        ("missing_share", column.missing_share, bounds.max_missing, True),
        ("zero_share", column.zero_share if column.numbers else None, bounds.max_zero, True),
    ]
    if column.numbers is not None and column.numbers.count:
        measures += [
            ("min", column.numbers.min, bounds.min, False),
            ("max", column.numbers.max, bounds.max, True),
        ]
    if column.distinct is not None:
        measures.append(("distinct", column.distinct.count(), bounds.min_distinct, False))
    return [
        _finding(name, measure, value, threshold)
        for measure, value, threshold, above in measures
        if value is not None
        and threshold is not None
        and (value > threshold if above else value < threshold)
    ]


def _drifted(name: str, drift: Drift | None, bounds: Bounds) -> list[Finding]:
    if drift is None:
        return []
    detail = (
        f"most in the bin {drift.worst_bin}: {drift.reference_share:.4g} before, "
        f"{drift.share:.4g} now"
    )
    measures = [
        ("psi", drift.psi, bounds.max_psi),
        ("l_infinity", drift.l_infinity, bounds.max_l_infinity),
        ("jensen_shannon", drift.jensen_shannon, bounds.max_jensen_shannon),
    ]
    return [
        _finding(name, measure, value, threshold, detail)
        for measure, value, threshold in measures
        if threshold is not None and value > threshold
    ]
