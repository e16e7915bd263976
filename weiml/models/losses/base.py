"""The contract of a loss: logits and labels in, each example's loss and its gradient out.

Gradients are written in closed form and compiled, so a loss needs no automatic differentiation: it
serves numpy as it is, and a torch network by ``logits.backward(torch.from_numpy(gradients))``.
"""

from __future__ import annotations

import abc
from typing import ClassVar, NamedTuple

import numpy as np

from weiml.errors import DataError
from weiml.models.calibration.logistic import squash

__all__ = ["GroupedLoss", "Loss", "LossResult", "PointwiseLoss"]


class LossResult(NamedTuple):
    """What a loss says of a batch."""

    values: np.ndarray
    """Each example's weighted loss, of the shape and dtype of the logits."""
    gradients: np.ndarray
    """Of the *sum* of values with respect to each logit, of the same shape and dtype."""
    total: float
    """The sum of values, added up in float64."""
    weight: float
    """The sum of the weights of what counted; ``total / weight`` is the mean loss."""


class Loss(abc.ABC):
    """A loss. Instances are frozen keyword-only dataclasses of parameters, so thread-safe.

    A subclass extends `PointwiseLoss` or `GroupedLoss`.
    """

    name: str
    """A field of each loss, ``Literal["..."]``: what configuration files call it."""

    grouped: ClassVar[bool]
    """Whether it compares the examples of a group, so that calls need groups."""

    calibrated: ClassVar[bool]
    """Whether `probabilities` are true ones where the expected loss is least.

    Where not, they keep the order only, and a calibration belongs behind the model.
    """

    def __call__(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> LossResult:
        """Return losses and gradients of a batch.

        Args:
            logits: (B,) or (B, T), a column a task; float32, or float64, which is kept.
            labels: of as many numbers, in [0, 1]; NaN is missing and has neither loss nor gradient.
            weights: of examples (B,), or (B, T); None counts as ones.
            groups: integers (B,), for losses that compare the examples of a group.

        Raises:
            DataError: a shape does not fit, a label lies outside [0, 1], a weight is negative or
                not finite, or groups are needed.
        """
        x, y, w = _columns(logits, labels, weights)
        values, gradients = np.zeros_like(x), np.zeros_like(x)
        total, weight = self._fill(x, y, w, groups, values, gradients)
        shape = np.shape(logits)
        return LossResult(values.reshape(shape), gradients.reshape(shape), total, weight)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities float32 that logits of any shape stand for: the sigmoid."""
        return squash(np.asarray(logits, np.float64)).astype(np.float32)

    @abc.abstractmethod
    def _fill(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        groups: np.ndarray | None,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        """Write values and gradients, all (B, T), and return (total, weight).

        Weights are 0 where labels are missing; values and gradients come as zeros.
        """


class PointwiseLoss(Loss):
    """A loss of one example at a time."""

    grouped: ClassVar[bool] = False

    @abc.abstractmethod
    def _each(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        """Do what `Loss._fill` says on flat arrays (n,)."""

    def _fill(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        groups: np.ndarray | None,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        flat = (column.reshape(-1) for column in (logits, labels, weights, values, gradients))
        return self._each(*flat)


class GroupedLoss(Loss):
    """A loss that compares the examples of a group; each task by itself.

    Examples of weight 0 and those without a label take no part, not even as what others are
    compared with.
    """

    grouped: ClassVar[bool] = True
    calibrated: ClassVar[bool] = False

    @abc.abstractmethod
    def _within(
        self,
        order: np.ndarray,
        bounds: np.ndarray,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        """Do what `Loss._fill` says on one task's arrays (B,).

        Group g's examples are ``order[bounds[g] : bounds[g + 1]]``, by rising label.
        """

    def _fill(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        groups: np.ndarray | None,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        if groups is None:
            raise DataError(
                f"loss {self.name} compares the examples of a group, but no groups were given: "
                "set the feature spec's group, or use a pointwise loss such as cross_entropy"
            )
        codes = np.asarray(groups).reshape(-1)
        if len(codes) != len(logits):
            raise DataError(f"groups must be as long as logits ({len(logits)}), got {len(codes)}")
        total = weight = 0.0
        for t in range(logits.shape[1]):
            columns = (logits, labels, weights, values, gradients)
            x, y, w, v, g = (np.ascontiguousarray(column[:, t]) for column in columns)
            sums = self._within(*_order(codes, y, w), x, y, w, v, g)
            values[:, t], gradients[:, t] = v, g
            total, weight = total + sums[0], weight + sums[1]
        return total, weight


def _order(
    groups: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples that count, by group and rising label, and where groups begin."""
    present = np.flatnonzero(weights > 0)
    order = present[np.lexsort((labels[present], groups[present]))]
    ordered = groups[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return order, np.concatenate([[0], changes, [len(order)]]).astype(np.int64)


def _columns(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels and weights as contiguous (B, T) of one dtype, weight 0 if missing."""
    x: np.ndarray = np.asarray(logits)
    kind: type[np.floating] = np.float64 if x.dtype == np.float64 else np.float32
    if x.ndim not in (1, 2):
        raise DataError(f"logits must be (B,) or (B, T), got {x.shape}")
    x = np.ascontiguousarray(x.reshape(len(x), -1 if x.size else 1), kind)
    y: np.ndarray = np.asarray(labels, kind)
    if y.size != x.size or len(y) != len(x):
        raise DataError(f"labels must fit logits {np.shape(logits)}, got {y.shape}")
    y = np.ascontiguousarray(y.reshape(x.shape))
    w: np.ndarray = np.ones(len(x), kind) if weights is None else np.asarray(weights, kind)
    if w.shape not in ((len(x),), x.shape):
        raise DataError(f"weights must be ({len(x)},) or {x.shape}, got {w.shape}")
    w = np.array(np.broadcast_to(w[:, None] if w.ndim == 1 else w, x.shape))
    if not ((w >= 0) & (w < np.inf)).all():
        raise DataError("weights must be finite, 0 or more")
    missing = np.isnan(y)
    w[missing] = 0
    if not (missing | ((y >= 0) & (y <= 1))).all():
        raise DataError("labels must lie in [0, 1], or be NaN where they are missing")
    return x, y, w
