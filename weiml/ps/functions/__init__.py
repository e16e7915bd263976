"""Functions that run where the rows are: registered by name, called by clients, merged by them."""

from __future__ import annotations

from weiml.ps.functions.ps_function import PsFunction
from weiml.ps.functions.registry import (
    elementwise,
    find_function,
    get_function,
    load_function_modules,
    update_function,
)
from weiml.ps.functions.shard_view import ShardView

__all__ = [
    "PsFunction",
    "ShardView",
    "elementwise",
    "find_function",
    "get_function",
    "load_function_modules",
    "update_function",
]
