"""Transforms of columns: fitted on data in parts, the same code offline and online."""

from __future__ import annotations

from weiml.features.transforms.base import Accumulator, Fitted, Transform

__all__ = ["Accumulator", "Fitted", "Transform"]
