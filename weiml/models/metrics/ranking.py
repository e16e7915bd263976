"""Metrics of the order within groups: GAUC, NDCG, precision at k, MRR; means over groups."""

from __future__ import annotations

import numpy as np

from weiml.errors import DataError
from weiml.models.metrics.arrays import checked, codes_of
from weiml.models.metrics.estimate import Estimate, WeightedMoments, mean_of_groups
from weiml.models.metrics.group_runs import GroupTable, GroupValues, group_values

__all__ = [
    "gauc",
    "gauc_estimate",
    "group_moments",
    "mrr",
    "mrr_estimate",
    "ndcg_at_k",
    "ndcg_at_k_estimate",
    "precision_at_k",
    "precision_at_k_estimate",
]


def gauc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Mean over groups of their AUC, weighted by each group's sum of example weights.

    Groups with one class only have no AUC and are left out; NaN where no group is left. (Zhu et
    al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017.)
    """
    return gauc_estimate(labels, scores, groups, weights).value


def gauc_estimate(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> Estimate:
    """Return `gauc` with the standard error of a weighted mean over groups."""
    values = _values(labels, scores, groups, weights, 1)
    return mean_of_groups(values.auc, values.weights).mean()


def ndcg_at_k(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10) -> float:
    """Mean over groups of NDCG@k with gains = labels; tied scores share their places' discounts.

    Groups of one example or without any positive say nothing about the order and are left out.
    NaN where no group is left. (Järvelin & Kekäläinen, TOIS 2002; ties: McSherry & Najork, 2008.)
    """
    return ndcg_at_k_estimate(labels, scores, groups, k).value


def ndcg_at_k_estimate(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10
) -> Estimate:
    """Return `ndcg_at_k` with the sample standard error over groups."""
    return mean_of_groups(_values(labels, scores, groups, None, k).ndcg).mean()


def precision_at_k(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10
) -> float:
    """Mean over groups of the share of positives among the first k, or all if there are fewer.

    Groups of one example are left out, those without a positive count as 0. Ties count as their
    mean over all orders.
    """
    return precision_at_k_estimate(labels, scores, groups, k).value


def precision_at_k_estimate(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int = 10
) -> Estimate:
    """Return `precision_at_k` with the sample standard error over groups."""
    return mean_of_groups(_values(labels, scores, groups, None, k).precision).mean()


def mrr(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
    """Mean over groups of 1 / place of the first example with a label above 0.

    Groups of one example or without any positive are left out. Ties count as their mean over all
    orders. (Voorhees, "The TREC-8 Question Answering Track Report", 1999.)
    """
    return mrr_estimate(labels, scores, groups).value


def mrr_estimate(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return `mrr` with the sample standard error over groups."""
    return mean_of_groups(_values(labels, scores, groups, None, 1).reciprocal_rank).mean()


def group_moments(values: GroupValues, k: int) -> dict[str, WeightedMoments]:
    """Return the moments of all metrics over groups by the names used in reports; they merge."""
    return {
        "gauc": mean_of_groups(values.auc, values.weights),
        f"ndcg_at_{k}": mean_of_groups(values.ndcg),
        f"precision_at_{k}": mean_of_groups(values.precision),
        "mrr": mean_of_groups(values.reciprocal_rank),
    }


def _values(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None,
    k: int,
) -> GroupValues:
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    y, s, w = checked(labels, scores, weights)
    return group_values(GroupTable.of(codes_of(groups, len(y)), s, y, w), k)
