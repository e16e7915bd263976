"""Step classes on data that any flow can use: ``data.fetch``, ``data.check``.

They live here because a step knows of the flow, which weiml.data must not.
"""

from __future__ import annotations

from pathlib import Path

from weiml.config import from_mapping, load_config
from weiml.data import fetch
from weiml.data.quality import Checks, check, read_statistics, require_none
from weiml.flow.context import StepContext
from weiml.flow.steps import step

__all__ = ["data_check", "data_fetch"]


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


@step("data.check")
def data_check(
    context: StepContext,
    data: Path,
    reference: Path | None = None,
    *,
    checks: Path | None = None,
    overrides: tuple[str, ...] = (),
) -> Path:
    """Check data before it is trained on; return its path, for the steps that train.

    The statistics' summary is reported as ``rows`` and ``findings``; an output step also writes
    ``statistics.json``, which can be the next day's reference.

    Args:
        context: of any node.
        data: a data file, a folder of such, or saved statistics (``.json``).
        reference: what `data` is compared with, in the same forms; no drift is checked without.
        checks: a TOML file with a `weiml.data.quality.Checks`; its defaults if left out.
        overrides: ``a.b=value``, on top of the file.

    Raises:
        DataError: a check failed; names feature, measure, value and threshold.
        ConfigError: the file of checks is missing or malformed.
    """
    wanted = (
        load_config(Checks, checks, overrides)
        if checks
        else from_mapping(Checks, {}, overrides=overrides, where="checks")
    )
    context.progress(f"reading {data}")
    statistics = read_statistics(data)
    before = read_statistics(reference) if reference else None
    findings = check(statistics, wanted, before)
    context.report("rows", statistics.rows)
    context.report("findings", [str(finding) for finding in findings])
    if context.folder is not None:
        statistics.save(context.output_dir / "statistics.json")
    require_none(findings, str(data))
    return data
