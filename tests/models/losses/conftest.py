"""Batches for losses, and each loss once more in torch, of which autograd makes the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

from weiml.models.losses import (
    BPR,
    FNC,
    FNW,
    CrossEntropy,
    Focal,
    Hinge,
    LambdaRank,
    Listwise,
    Loss,
    RankNet,
)


class Inputs(NamedTuple):
    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    groups: np.ndarray


def inputs(rng: np.random.Generator, count: int = 40) -> Inputs:
    return Inputs(
        logits=2 * rng.standard_normal(count),
        labels=rng.integers(0, 2, count).astype(float),
        weights=rng.uniform(0.5, 2, count),
        groups=rng.integers(0, 9, count).astype(np.uint64),
    )


@pytest.fixture
def batch(rng: np.random.Generator) -> Inputs:
    return inputs(rng)


def _cross_entropy(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, pos_weight: float = 1
) -> torch.Tensor:
    scale = torch.tensor(pos_weight, dtype=x.dtype)
    return w * functional.binary_cross_entropy_with_logits(x, y, reduction="none", pos_weight=scale)


def _focal(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, gamma: float, up: float, down: float
) -> torch.Tensor:
    p = torch.sigmoid(x)
    return -w * (up * y * (1 - p) ** gamma * p.log() + down * (1 - y) * p**gamma * (1 - p).log())


def _hinge(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, margin: float, pos_weight: float
) -> torch.Tensor:
    return w * (pos_weight * y * (margin - x).relu() + (1 - y) * (margin + x).relu())


def _fnw(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    f = torch.sigmoid(x)
    still = f.detach()
    return -w * (y * (1 + still) * f.log() + (1 - y) * (1 - still) * (1 + still) * (1 - f).log())


def _ranknet(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, groups: np.ndarray, scale: float
) -> torch.Tensor:
    values = torch.zeros_like(x)
    for i in range(len(x)):
        below = torch.from_numpy(groups == groups[i]) & (y < y[i]) & (w > 0)
        if below.any() and w[i] > 0:
            values[i] = w[i] * functional.softplus(-scale * (x[i] - x[below])).mean()
    return values


def _listwise(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, groups: np.ndarray, softmax: bool
) -> torch.Tensor:
    values = torch.zeros_like(x)
    for group in np.unique(groups):
        at = torch.from_numpy(groups == group) & (w > 0)
        if at.sum() > 1 and (softmax or y[at].sum() > 0):
            target = torch.softmax(y[at], 0) if softmax else y[at] / y[at].sum()
            values[at] = -w[at] * target * torch.log_softmax(x[at], 0)
    return values


def _lambdarank(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, groups: np.ndarray, k: int
) -> torch.Tensor:
    values = torch.zeros_like(x)
    for group in np.unique(groups):
        at = np.flatnonzero((groups == group) & (w > 0).numpy())
        place = {int(i): r for r, i in enumerate(at[np.argsort(-x.detach().numpy()[at])])}
        gains = {r: 1 / np.log2(r + 2) if r < k else 0.0 for r in range(len(at))}
        best = sum(g * v for g, v in zip(gains.values(), sorted(y[at].tolist())[::-1], strict=True))
        for i in at:
            for j in at:
                if y[j] < y[i]:
                    change = abs((y[i] - y[j]) * (gains[place[int(i)]] - gains[place[int(j)]]))
                    values[i] = values[i] + w[i] * change / best * functional.softplus(x[j] - x[i])
    return values


Reference = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray], torch.Tensor]

CASES: dict[str, tuple[Loss, Reference]] = {
    "cross_entropy": (CrossEntropy(), lambda x, y, w, g: _cross_entropy(x, y, w)),
    "cross_entropy, positives": (
        CrossEntropy(pos_weight=3.5),
        lambda x, y, w, g: _cross_entropy(x, y, w, 3.5),
    ),
    "focal": (Focal(gamma=2), lambda x, y, w, g: _focal(x, y, w, 2, 1, 1)),
    "focal, balanced": (
        Focal(gamma=0.7, alpha=0.25, pos_weight=2),
        lambda x, y, w, g: _focal(x, y, w, 0.7, 0.5, 0.75),
    ),
    "hinge": (
        Hinge(margin=1.5, pos_weight=2),
        lambda x, y, w, g: _hinge(x, y, w, 1.5, 2),
    ),
    "fnw": (FNW(), lambda x, y, w, g: _fnw(x, y, w)),
    "fnc": (FNC(), lambda x, y, w, g: _cross_entropy(x, y, w)),
    "ranknet": (RankNet(scale=1.5), lambda x, y, w, g: _ranknet(x, y, w, g, 1.5)),
    "listwise": (Listwise(), lambda x, y, w, g: _listwise(x, y, w, g, False)),
    "listnet": (Listwise(target="softmax"), lambda x, y, w, g: _listwise(x, y, w, g, True)),
    "lambdarank": (LambdaRank(), lambda x, y, w, g: _lambdarank(x, y, w, g, 10**6)),
    "lambdarank at 2": (LambdaRank(k=2), lambda x, y, w, g: _lambdarank(x, y, w, g, 2)),
}

LOSSES: list[Loss] = [*(loss for loss, _ in CASES.values()), BPR(negatives=3)]
