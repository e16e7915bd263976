"""Data: registered data sets, history features, the online feature view, batches on disk."""

from __future__ import annotations

from weiml.data.batches import (
    BatchDataset,
    BatchSource,
    CsvExamples,
    ParquetKeys,
    read_ahead,
    write_batches,
)
from weiml.data.datasets import (
    DATASETS,
    BestScores,
    ClickGenerator,
    ClicksConfig,
    Dataset,
    MovieLensSources,
    ProgressCallback,
    SyntheticConfig,
    default_cache_dir,
    fetch,
    generate_feed,
    list_datasets,
    register_dataset,
    rich_progress,
)
from weiml.data.history import (
    FeatureView,
    HistoryConfig,
    HistoryState,
    Profiles,
    cut_blocks,
    describe_events,
    prefix_counts,
    prefix_sums,
    time_columns,
)
from weiml.data.splits import SPLITS, split_by_time

__all__ = [
    "DATASETS",
    "SPLITS",
    "BatchDataset",
    "BatchSource",
    "BestScores",
    "ClickGenerator",
    "ClicksConfig",
    "CsvExamples",
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
