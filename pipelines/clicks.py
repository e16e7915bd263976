"""Features of generated clicks of Criteo's shape, at any size.

Run it with ``python -m pipelines.clicks --dataset synthetic-criteo:rows=10000000``; what becomes of
each column stands in configs/features/clicks.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from weiml.cli.pipeline import Tables, run_pipeline
from weiml.data import Examples

SPEC = Path(__file__).resolve().parent.parent / "configs/features/clicks.toml"


def prepare(tables: Tables) -> Mapping[str, Examples]:
    """Split by time: the last tenth of the clicks is the test, the tenth before it validation."""
    return tables("examples").split_by_time("timestamp")


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    return run_pipeline(
        prepare, name="pipelines.clicks", dataset="synthetic-criteo", spec=SPEC, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
