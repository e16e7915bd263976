"""What was known before each event: the offline job and the online view, equal to the bit."""

from __future__ import annotations

from weiml.data.history.job import cut_blocks, describe_events
from weiml.data.history.profiles import Profiles, time_columns
from weiml.data.history.state import HistoryConfig, HistoryState, prefix_counts, prefix_sums
from weiml.data.history.view import FeatureView

__all__ = [
    "FeatureView",
    "HistoryConfig",
    "HistoryState",
    "Profiles",
    "cut_blocks",
    "describe_events",
    "prefix_counts",
    "prefix_sums",
    "time_columns",
]
