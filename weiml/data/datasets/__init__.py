"""Data sets by name: fetched or generated once, cached as canonical Parquet files."""

from __future__ import annotations

from weiml.data.datasets.adult import build_adult
from weiml.data.datasets.best_scores import BestScores
from weiml.data.datasets.clicks import ClickGenerator, ClicksConfig
from weiml.data.datasets.download import ProgressCallback, rich_progress
from weiml.data.datasets.mnist import build_mnist, read_mnist_folder
from weiml.data.datasets.movielens import MovieLensSources
from weiml.data.datasets.open_bandit import build_open_bandit
from weiml.data.datasets.registry import (
    DATASETS,
    Dataset,
    default_cache_dir,
    fetch,
    list_datasets,
    register_dataset,
)
from weiml.data.datasets.synthetic import SyntheticConfig, generate_feed

__all__ = [
    "DATASETS",
    "BestScores",
    "ClickGenerator",
    "ClicksConfig",
    "Dataset",
    "MovieLensSources",
    "ProgressCallback",
    "SyntheticConfig",
    "build_adult",
    "build_mnist",
    "build_open_bandit",
    "default_cache_dir",
    "fetch",
    "generate_feed",
    "list_datasets",
    "read_mnist_folder",
    "register_dataset",
    "rich_progress",
]
