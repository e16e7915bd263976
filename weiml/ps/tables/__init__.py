"""Tables: which keys have rows, what lies in a row, how it is trained, and what changed when."""

from __future__ import annotations

from weiml.ps.tables.config import TableConfig
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.sparse import SparseTable

__all__ = ["DenseTable", "SparseTable", "TableConfig"]
