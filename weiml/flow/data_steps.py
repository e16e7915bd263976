"""Step classes on data that any flow can use: ``data.fetch``.

They live here because a step knows of the flow, which weiml.data must not.
"""

from __future__ import annotations

from pathlib import Path

from weiml.data import fetch
from weiml.flow.context import StepContext
from weiml.flow.steps import step

__all__ = ["data_fetch"]


@step("data.fetch")
def data_fetch(context: StepContext, *, dataset: str, cache_dir: str = "") -> Path:
    """Return the folder of a registered data set's Parquet files, fetching it once.

    Args:
        context: of any node.
        dataset: a registered name, with choices after a colon, as `weiml.data.fetch` takes it.
        cache_dir: where data sets are kept. Text, not a Path: the files that a step's paths name
            become part of the node's cache key, and this folder holds whatever was ever fetched.

    Raises:
        FetchError: the data set is unknown or cannot be obtained; says what to do.
    """
    context.progress(f"fetching {dataset}")
    return fetch(dataset, cache_dir or None, progress=context.progress)
