"""What is expected of each column, inferred from statistics and checked against others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weiml.config import from_mapping, to_mapping
from weiml.data.quality.columns import ColumnStatistics
from weiml.data.quality.findings import Finding
from weiml.data.quality.statistics import TableStatistics
from weiml.errors import ConfigError

__all__ = ["ColumnConstraint", "Constraints"]


@dataclass(frozen=True, kw_only=True)
class ColumnConstraint:
    """What is expected of one feature; None expects nothing."""

    name: str
    type: str | None = None
    """The Arrow type, as text."""
    required: bool = True
    """Whether the feature must be there."""
    max_missing: float | None = None
    """Largest share of missing values."""
    min: float | None = None
    max: float | None = None
    domain: tuple[str, ...] | None = None
    """The only values there may be, as text."""

    def check(self, column: ColumnStatistics | None) -> list[Finding]:
        """Return what `column` breaks."""
        if column is None:
            return [self._finding("presence", 0.0, 1.0, "missing")] if self.required else []
        found = []
        if self.type is not None and column.type != self.type:
            found.append(self._finding("type", None, None, f"{column.type}, not {self.type}"))
        if self.max_missing is not None and column.missing_share > self.max_missing:
            found.append(self._finding("missing_share", column.missing_share, self.max_missing))
        numbers = column.numbers
        if numbers is not None and numbers.count:
            if self.min is not None and numbers.min < self.min:
                found.append(self._finding("min", numbers.min, self.min))
            if self.max is not None and numbers.max > self.max:
                found.append(self._finding("max", numbers.max, self.max))
        if self.domain is not None and column.values is not None:
            new = sorted({value for value, _ in column.values.top(1 << 30)} - set(self.domain))
            if new:
                shown = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
                found.append(self._finding("domain", float(len(new)), 0.0, f"new values {shown}"))
        return found

    def _finding(
        self, measure: str, value: float | None, threshold: float | None, detail: str = ""
    ) -> Finding:
        return Finding(
            feature=self.name, measure=measure, value=value, threshold=threshold, detail=detail
        )


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What is expected of a table.

    Raises:
        ConfigError: a column stands there twice.
    """

    columns: tuple[ColumnConstraint, ...]
    allow_new_columns: bool = True

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"constraints on {twice} stand there more than once")

    @classmethod
    def infer(cls, statistics: TableStatistics, *, domain_size: int = 50) -> Constraints:
        """Return what the statistics show: types, presence, ranges, and domains of few values.

        Shares of missing values may double; ranges are taken as they are: widen them by hand where
        new extremes are to be expected.

        Args:
            statistics: of data that is known to be good.
            domain_size: features of text with at most so many different values get a domain.
        """
        return cls(
            columns=tuple(
                _inferred(name, column, domain_size)
                for name, column in statistics.features().items()
            )
        )

    def check(self, statistics: TableStatistics) -> list[Finding]:
        """Return all that the statistics break, feature by feature."""
        features = statistics.features()
        found = [f for column in self.columns for f in column.check(features.get(column.name))]
        if not self.allow_new_columns:
            known = {column.name for column in self.columns}
            found += [
                Finding(feature=name, measure="new_column", value=None, threshold=None)
                for name in features
                if name not in known
            ]
        return found

    def to_mapping(self) -> dict[str, Any]:
        """Return it as plain dictionaries, fit for JSON and TOML but for the Nones."""
        return to_mapping(self)

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> Constraints:
        """Build it from nested mappings as in TOML or JSON."""
        return from_mapping(cls, mapping, where="constraints")


def _inferred(name: str, column: ColumnStatistics, domain_size: int) -> ColumnConstraint:
    numbers = column.numbers if column.numbers and column.numbers.count else None
    domain = None
    if column.values is not None and column.numbers is None and column.values.exact:
        values = [value for value, _ in column.values.top(domain_size + 1)]
        domain = tuple(sorted(values)) if 0 < len(values) <= domain_size else None
    return ColumnConstraint(
        name=name,
        type=column.type,
        max_missing=min(2 * column.missing_share, 1.0),
        min=numbers.min if numbers else None,
        max=numbers.max if numbers else None,
        domain=domain,
    )
