"""The fluent DataAPI: examples from sources, through filters, joins and counters, to sinks."""

from __future__ import annotations

from weiml.data.durations import Window
from weiml.data.examples.aggregates import AGGREGATES, Rate
from weiml.data.examples.columns import Expression, col, ratio
from weiml.data.examples.examples import Examples
from weiml.data.examples.running import RunOptions

__all__ = ["AGGREGATES", "Examples", "Expression", "Rate", "RunOptions", "Window", "col", "ratio"]
