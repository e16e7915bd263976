"""Rows by 64-bit key in memory: where they lie, how they are found, and what runs on them there."""

from __future__ import annotations

from weiml.ps.rows.store import RowStore

__all__ = ["RowStore"]
