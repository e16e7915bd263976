"""All metrics that compare models, over examples that come in parts, on one process or many."""

from __future__ import annotations

from typing import Self

import numpy as np

from weiml.errors import DataError
from weiml.models.metrics.arrays import checked, require_probabilities, smallest_probability
from weiml.models.metrics.auc import auc_of_runs
from weiml.models.metrics.calibration import (
    calibration_ratio_of,
    expected_calibration_error_of_runs,
)
from weiml.models.metrics.cross_entropy import (
    cross_entropies,
    normalized_entropy_of,
    recalibrated_ne_of_runs,
    relative_of,
)
from weiml.models.metrics.estimate import Estimate, WeightedMoments, same_settings
from weiml.models.metrics.group_runs import GroupRuns, GroupTable, group_values
from weiml.models.metrics.ranking import group_moments
from weiml.models.metrics.score_runs import ScoreCells, ScoreTable

__all__ = ["MetricsAccumulator"]

_LABEL, _SCORE, _LOSS = range(3)


class MetricsAccumulator:
    """Sums from which every metric follows. Picklable; not thread-safe.

    However the examples are cut into parts, and in whatever order parts are added and merged, the
    result is the same to 1e-12; where all weights are 1, AUC and its like to the bit.

    Args:
        k: of NDCG and precision.
        num_bins: of the calibration errors.
        score_cells: None keeps each distinct score, which is exact and takes 48 bytes a score. A
            number keeps as many cells of equal width in logits, 65,536 say, for streams without an
            end: AUC, calibration errors and recalibrated NE are approximate then, and the result
            has `auc_bound`, how far the AUC may be off. Means stay exact.
        whole_groups: each group comes whole in one part, as where a part is a request's examples.
            Then only sums over groups are kept. Otherwise a group may be spread over parts, and 40
            bytes for each distinct group, score and label are kept.

    Raises:
        DataError: k, num_bins or score_cells is below 1.
    """

    def __init__(
        self,
        *,
        k: int = 10,
        num_bins: int = 20,
        score_cells: int | None = None,
        whole_groups: bool = False,
    ) -> None:
        self._settings: dict[str, object] = {
            "k": k,
            "num_bins": num_bins,
            "score_cells": score_cells,
            "whole_groups": whole_groups,
        }
        for name, value in self._settings.items():
            if value is not None and not isinstance(value, bool) and int(value) < 1:  # type: ignore[call-overload]
                raise DataError(f"{name} must be at least 1, got {value}")
        self._k, self._num_bins, self._whole = k, num_bins, whole_groups
        self._rates = WeightedMoments(1)
        self._means = WeightedMoments(3)
        self._scores: ScoreTable | ScoreCells = (
            ScoreTable() if score_cells is None else ScoreCells(score_cells)
        )
        self._groups = GroupRuns()
        self._sums: dict[str, WeightedMoments] = {}
        self._has_groups = self._has_orders = False

    @property
    def examples(self) -> int:
        """How many were added, without those whose label is missing."""
        return self._rates.count

    def add(
        self,
        labels: np.ndarray,
        scores: np.ndarray,
        groups: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Add examples; those with label NaN are left out.

        Args:
            labels: (n,) or (n, 1), in [0, 1] or NaN.
            scores: probabilities, (n,) or (n, 1).
            groups: integers (n,), as `Batch.groups`; None: these examples are in no group.
            weights: (n,), 0 or more.

        Raises:
            DataError: lengths differ, or a value is out of its range.
        """
        epsilon = smallest_probability(scores)
        columns = _flat(labels, scores, groups, weights)
        known = ~np.isnan(columns[0])
        if not known.all():
            columns = tuple(None if c is None else c[known] for c in columns)  # type: ignore[assignment]
        labels, scores, groups, weights = columns
        y, s, w = checked(labels, scores, weights)
        require_probabilities(s)
        self._rates.add([y], np.ones(len(y)))
        self._means.add([y, s, cross_entropies(y, s, epsilon)], w)
        self._scores.add(y, s, w)
        if groups is not None:
            self._add_groups(GroupTable.of(groups, s, y, w))

    def merge(self, other: Self) -> None:
        """Add what another accumulator has seen; it stays as it is.

        Raises:
            DataError: it was made with other settings.
        """
        same_settings(self._settings, other._settings)
        self._rates.merge(other._rates)
        self._means.merge(other._means)
        self._scores.merge(other._scores)  # type: ignore[arg-type]
        if not self._whole:
            self._groups.add(other._groups.table())
        self._merge_sums(other._sums)
        self._has_groups |= other._has_groups
        self._has_orders |= other._has_orders

    def estimates(self) -> dict[str, Estimate]:
        """Return every metric with its standard error, by the names used in reports.

        auc, log_loss, ne, recalibrated_ne, rce, calibration_ratio, ece, ece_equal_mass and
        positive_rate; with groups also gauc, ndcg_at_K, precision_at_K and mrr. There are groups
        unless all are 0 or each has one example.
        """
        runs = self._scores.runs()
        ne = normalized_entropy_of(self._means, _LABEL, _LOSS)
        found = {
            "auc": auc_of_runs(runs),
            "log_loss": self._means.mean(_LOSS),
            "ne": ne,
            "recalibrated_ne": recalibrated_ne_of_runs(runs),
            "rce": relative_of(ne),
            "calibration_ratio": calibration_ratio_of(self._means, _LABEL, _SCORE),
            "ece": expected_calibration_error_of_runs(runs, self._num_bins, "width"),
            "ece_equal_mass": expected_calibration_error_of_runs(runs, self._num_bins, "mass"),
            "positive_rate": self._rates.mean(),
        }
        return found | self._group_estimates()

    def result(self, *, standard_errors: bool = True) -> dict[str, float]:
        """Return `estimates` as numbers, standard errors under ``NAME_se``, and `examples`.

        With cells of scores also auc_bound.
        """
        numbers = {"examples": float(self.examples)}
        for name, (value, error) in self.estimates().items():
            numbers[name] = value
            if standard_errors:
                numbers[f"{name}_se"] = error
        if isinstance(self._scores, ScoreCells):
            numbers["auc_bound"] = self._scores.auc_bound()
        return numbers

    def _add_groups(self, table: GroupTable) -> None:
        self._has_groups |= bool((table.groups != 0).any())
        if not self._whole:
            self._groups.add(table)
            return
        values = group_values(table, self._k)
        self._has_orders |= bool((values.sizes > 1).any())
        self._merge_sums(group_moments(values, self._k))

    def _merge_sums(self, sums: dict[str, WeightedMoments]) -> None:
        for name, moments in sums.items():
            self._sums.setdefault(name, WeightedMoments(1)).merge(moments)

    def _group_estimates(self) -> dict[str, Estimate]:
        if not self._has_groups:
            return {}
        sums, has_orders = self._sums, self._has_orders
        if not self._whole:
            values = group_values(self._groups.table(), self._k)
            has_orders = bool((values.sizes > 1).any())
            sums = group_moments(values, self._k)
        if not has_orders:
            return {}
        return {name: moments.mean() for name, moments in sums.items()}


def _flat(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None,
    weights: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return columns of one length; groups are uint64, whatever integers they came as."""
    labels, scores = np.asarray(labels).reshape(-1), np.asarray(scores).reshape(-1)
    weights = None if weights is None else np.asarray(weights).reshape(-1)
    groups = None if groups is None else np.asarray(groups).reshape(-1)
    for name, column in (("scores", scores), ("groups", groups), ("weights", weights)):
        if column is not None and len(column) != len(labels):
            raise DataError(f"{name} must be as long as labels ({len(labels)}), got {len(column)}")
    if groups is not None and groups.dtype.kind not in "iub":
        raise DataError(f"groups must be integers, got {groups.dtype}")
    return labels, scores, None if groups is None else groups.astype(np.uint64), weights
