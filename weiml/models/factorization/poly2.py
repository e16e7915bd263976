"""Degree-2 polynomials: logistic regression with a weight for every pair of keys of two slots.

    logit = bias + Σ_k w_k x_k + Σ_d w_d dense_d + Σ_{slots s<t} Σ_{i in s, j in t} w_{i,j} x_i x_j

(Chang, Hsieh, Chang, Ringgaard and Lin, "Training and testing low-degree polynomial data mappings
via linear SVM", JMLR 11, 2010.) Pairs are hashed on the fly to 64-bit keys; they live for a step,
only their weights stay. Unlike in factorization machines, a pair that was never seen has no weight.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from weiml.config import nearest
from weiml.errors import ConfigError
from weiml.features import Cross
from weiml.models.linear.base import LinearConfig, LinearModel
from weiml.models.registry import register_model

__all__ = ["Poly2", "Poly2Config"]


@dataclass(frozen=True, kw_only=True)
class Poly2Config(LinearConfig):
    """`crosses` and `cross_groups` come on top, as of three slots."""

    name: Literal["poly2"] = "poly2"
    paired_slots: tuple[str, ...] | None = None
    """Slots that are paired, each with each; None: all."""

    def __post_init__(self) -> None:
        slots = self.paired_slots or ()
        repeated = sorted({slot for slot in slots if slots.count(slot) > 1})
        if repeated:
            raise ConfigError(f"paired_slots: {repeated} stand more than once")


@register_model
class Poly2(LinearModel):
    """See the module."""

    name = "poly2"
    config_class = Poly2Config
    config: Poly2Config

    def _products(self) -> tuple[Cross, ...]:
        slots = self.columns.slots
        paired = slots if self.config.paired_slots is None else self.config.paired_slots
        for name in paired:
            if name not in slots:
                raise ConfigError(f"paired_slots: {name!r} is no slot{nearest(name, slots)}")
        pairs = itertools.combinations(paired, 2)
        return (*(Cross(f"poly2.{a}_x_{b}", of=(a, b)) for a, b in pairs), *super()._products())
