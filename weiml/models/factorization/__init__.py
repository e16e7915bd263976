"""Models of pairs of keys. Those that torch computes are imported when they are first used."""

from __future__ import annotations

__all__: list[str] = []
