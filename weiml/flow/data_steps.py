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
def data_fetch(context: StepContext, *, dataset: str, cache_dir: Path | None = None) -> Path:
    """Return the folder of a registered data set's Parquet files, fetching it once.

    Raises:
        FetchError: the data set is unknown or cannot be obtained; says what to do.
    """
    context.progress(f"fetching {dataset}")
    return fetch(dataset, cache_dir, progress=context.progress)
