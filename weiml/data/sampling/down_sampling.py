"""Down-sampling of negatives, and how to undo it in predictions or in the loss.

With negatives kept at the rate r, odds grow by 1 / r. So from a prediction p of a model that was
trained on the sample, the true probability is

    p r / (1 − p + r p)

(X. He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014,
section 6.3).
Or else the kept negatives weigh 1 / r in training, and predictions need no correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from weiml.data.sampling.counts import RowCounts, keep_rows, labels_of, numbers_of
from weiml.data.sampling.keys import row_keys, share_of
from weiml.errors import ConfigError, DataError

__all__ = ["DownSampling", "correct_predictions", "down_sample", "rate_for"]


@dataclass(frozen=True, kw_only=True)
class DownSampling:
    """How negatives are drawn.

    Whether an example is kept follows from its id and the seed alone: it is the same in whatever
    part of the data and in whatever order it comes.

    Raises:
        ConfigError: the rate is not in (0, 1], or there is no id.
    """

    id: tuple[str, ...]
    """Columns that tell examples apart; equal ids are kept or left out together."""
    rate: float
    """Share of the negatives to keep; `rate_for` gives that for a share of positives."""
    label: str = "label"
    weight: str | None = None
    """Column whose weights (1 where there is none yet) are divided by the rate for negatives.
    Use either this or `correct_predictions`, never both."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ConfigError(f"rate must be above 0 and at most 1, got {self.rate}")
        if not self.id:
            raise ConfigError("id must name at least one column")


def rate_for(positives: int, negatives: int, positive_share: float) -> float:
    """Return the rate at which negatives are to be kept so that positives have a given share.

    1 if positives have that share already: examples are never made up.

    >>> round(rate_for(positives=100, negatives=9900, positive_share=0.1), 4)
    0.0909

    Raises:
        ConfigError: the share is not between 0 and 1.
        DataError: there are no positives, or no negatives.
    """
    if not 0 < positive_share < 1:
        raise ConfigError(f"positive_share must be between 0 and 1, got {positive_share}")
    if positives < 1 or negatives < 1:
        raise DataError(
            f"{positives} positives and {negatives} negatives give no rate: both must be there"
        )
    return min(1.0, positives * (1 - positive_share) / (positive_share * negatives))


def down_sample(
    table: pa.Table, config: DownSampling, *, counts: RowCounts | None = None
) -> pa.Table:
    """Return all positives and the drawn negatives, in their order.

    Raises:
        DataError: a column is missing, or a label is neither 0 nor 1.
    """
    positive = labels_of(table, config.label)
    keep = positive | (share_of(row_keys(table, config.id), config.seed) < config.rate)
    kept = keep_rows(table, keep, "negatives not drawn", counts)
    if config.weight is None:
        return kept
    factor = np.where(positive[keep], 1.0, 1.0 / config.rate)
    return multiply_weights(kept, config.weight, factor)


def correct_predictions(predictions: Any, rate: float) -> Any:
    """Return what predictions would be without down-sampling: p r / (1 − p + r p), elementwise.

    It grows with p, so that ranking and AUC stay the same.

    Raises:
        ConfigError: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise ConfigError(f"rate must be above 0 and at most 1, got {rate}")
    p = np.asarray(predictions)
    return p * rate / (1 - p + rate * p)


def multiply_weights(table: pa.Table, name: str, factor: np.ndarray) -> pa.Table:
    """Return the table with the weights in `name` times `factor`, float32; 1 where it has none."""
    if name in table.column_names:
        nulls = table[name].null_count
        if nulls:
            raise DataError(f"weights in {name!r} have {nulls} nulls; fill them first")
        weights = numbers_of(table, name, "weight") * factor
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(weights.astype(np.float32)))
    return table.append_column(name, pa.array(factor.astype(np.float32)))
