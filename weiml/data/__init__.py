"""Data: registered data sets, history features, the online feature view, batches on disk."""

from __future__ import annotations

from weiml.data.batches import BatchDataset, write_batches
from weiml.data.download import ProgressCallback, rich_progress
from weiml.data.feature_view import FeatureView
from weiml.data.history import HistoryConfig, HistoryState, prefix_counts, prefix_sums
from weiml.data.history_job import cut_blocks, describe_events
from weiml.data.movielens import MovieLensSources
from weiml.data.parquet import ParquetKeys
from weiml.data.profiles import Profiles, time_columns
from weiml.data.registry import (
    DATASETS,
    Dataset,
    default_cache_dir,
    fetch,
    list_datasets,
    register_dataset,
)
from weiml.data.splits import SPLITS, split_by_time
from weiml.data.stream import BatchSource, read_ahead
from weiml.data.synthetic import SyntheticConfig, generate_feed

__all__ = [
    "DATASETS",
    "SPLITS",
    "BatchDataset",
    "BatchSource",
    "Dataset",
    "FeatureView",
    "HistoryConfig",
    "HistoryState",
    "MovieLensSources",
    "ParquetKeys",
    "Profiles",
    "ProgressCallback",
    "SyntheticConfig",
    "cut_blocks",
    "default_cache_dir",
    "describe_events",
    "fetch",
    "generate_feed",
    "list_datasets",
    "prefix_counts",
    "prefix_sums",
    "read_ahead",
    "register_dataset",
    "rich_progress",
    "split_by_time",
    "time_columns",
    "write_batches",
]
