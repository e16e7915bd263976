"""Entire Space Multi-task Model: conversion learned over all impressions, not over clicks alone.

    p(click) = sigmoid(f_1(x))      p(click and convert) = sigmoid(f_1(x)) sigmoid(f_2(x))

The labels are click, and click and convert; so f_2 is the rate of conversion after a click, though
it is never trained on clicks as if they were all examples. Longer chains (click, cart, buy) are
taken alike. (Ma et al., "Entire space multi-task model: an effective approach for estimating
post-click conversion rate", SIGIR 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.multitask.base import MultiTaskModel, Towers
from weiml.models.multitask.config import MultiTaskConfig
from weiml.models.registry import register_model

__all__ = ["ESMM", "ESMMConfig", "chained_logits"]


@dataclass(frozen=True, kw_only=True)
class ESMMConfig(MultiTaskConfig):
    """Tasks that follow one another: each label implies the one before."""

    name: Literal["esmm"] = "esmm"
    tasks: tuple[str, ...] = ("click", "convert")
    tower: tuple[int, ...] = (256, 128, 64)
    """Hidden sizes of each rate's network; the embeddings are all that they share."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tasks) < 2:
            raise ConfigError(f"tasks of a chain are at least 2, got {self.tasks}")


def chained_logits(rates: torch.Tensor) -> torch.Tensor:
    """Return the log-odds (B, T) of products of rates whose log-odds are given (B, T).

    Column t is that of ``p_t = sigmoid(r_0) … sigmoid(r_t)``, taken in logarithms: with q = 1 - p,
    ``q_t = q_{t-1} + p_{t-1} sigmoid(-r_t)``. No difference of near numbers is taken.
    """
    log_p, log_q = logsigmoid(rates[:, 0]), logsigmoid(-rates[:, 0])
    columns = [rates[:, 0]]
    for rate in rates.unbind(1)[1:]:
        log_q = torch.logaddexp(log_q, log_p + logsigmoid(-rate))
        log_p = log_p + logsigmoid(rate)
        columns.append(log_p - log_q)
    return torch.stack(columns, 1)


class _Network(nn.Module):
    def __init__(self, config: ESMMConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.towers = Towers(shape.num_inputs, config, shape)
        self._count = len(config.tasks)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return chained_logits(self.towers([inputs.flat] * self._count).float())


@register_model
class ESMM(MultiTaskModel):
    """See the module."""

    name = "esmm"
    config_class = ESMMConfig
    config: ESMMConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)

    def _losses(self, batch: Batch, logits: torch.Tensor) -> tuple[float, torch.Tensor]:
        """See `MultiTaskModel`; refuses labels that break the chain."""
        broken = (batch.labels[:, 1:] > batch.labels[:, :-1]).any(1)
        if broken.any():
            first = int(np.flatnonzero(broken)[0])
            raise DataError(
                f"model {self.name!r}: each of the labels {self.tasks} implies the one before, but "
                f"example {first} of a batch has {batch.labels[first].tolist()}; make a label the "
                "product of its own and those before"
            )
        return super()._losses(batch, logits)
