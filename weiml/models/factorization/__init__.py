"""Models of pairs of keys. Those that torch computes are imported when they are first used."""

from __future__ import annotations

from weiml.models.factorization.poly2 import Poly2, Poly2Config

__all__ = ["Poly2", "Poly2Config"]
