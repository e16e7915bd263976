"""Features for predicting income: the US census of 1994, in the official split.

Run it with ``python -m pipelines.census``; what becomes of each column stands in
configs/features/census.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from weiml.cli.pipeline import Tables, run_pipeline
from weiml.data import Examples, col

SPEC = Path(__file__).resolve().parent.parent / "configs/features/census.toml"
SHARES = {"train": 0.9, "validation": 0.1}


def prepare(tables: Tables) -> Mapping[str, Examples]:
    """Keep the official test, and hold a tenth of the training people back for validation."""
    people = tables("examples")
    test = people.filter(col("split") == "test")
    known = people.filter(col("split") == "train").split_by_hash("fnlwgt", SHARES)
    return {**known, "test": test}


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    return run_pipeline(prepare, name="pipelines.census", dataset="adult", spec=SPEC, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
