"""Data quality: statistics of tables, constraints, drift, train-serve skew, checks."""

from __future__ import annotations

from weiml.data.quality.checks import Bounds, Checks, FeatureBounds, check
from weiml.data.quality.columns import ColumnStatistics
from weiml.data.quality.constraints import ColumnConstraint, Constraints
from weiml.data.quality.drift import Drift, compare, jensen_shannon, l_infinity, psi
from weiml.data.quality.findings import Finding, require_none
from weiml.data.quality.skew import FeatureSkew, Skew, compare_rows
from weiml.data.quality.statistics import TableStatistics, read_statistics, statistics_of
from weiml.data.quality.summary import SUMMARY_HEADS, summary_rows

__all__ = [
    "SUMMARY_HEADS",
    "Bounds",
    "Checks",
    "ColumnConstraint",
    "ColumnStatistics",
    "Constraints",
    "Drift",
    "FeatureBounds",
    "FeatureSkew",
    "Finding",
    "Skew",
    "TableStatistics",
    "check",
    "compare",
    "compare_rows",
    "jensen_shannon",
    "l_infinity",
    "psi",
    "read_statistics",
    "require_none",
    "statistics_of",
    "summary_rows",
]
