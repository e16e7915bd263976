"""Sample preparation: down-sampling, weights, contradictions, duplicates."""

from __future__ import annotations

from weiml.data.sampling.contradictions import (
    Contradictions,
    bucket_edges,
    remove_contradictions,
)
from weiml.data.sampling.counts import RowCounts
from weiml.data.sampling.down_sampling import (
    DownSampling,
    correct_predictions,
    down_sample,
    rate_for,
)
from weiml.data.sampling.duplicates import Duplicates, remove_duplicates
from weiml.data.sampling.keys import row_keys, share_of
from weiml.data.sampling.weights import KindWeights, weigh

__all__ = [
    "Contradictions",
    "DownSampling",
    "Duplicates",
    "KindWeights",
    "RowCounts",
    "bucket_edges",
    "correct_predictions",
    "down_sample",
    "rate_for",
    "remove_contradictions",
    "remove_duplicates",
    "row_keys",
    "share_of",
    "weigh",
]
