"""Train a model by a plan: discretizers, network, calibration and test, each stage once.

Run it with ``python -m pipelines.plan configs/plans/clicks.toml``; a second run takes what is done
from the folder, ``--set calibration.name=platt`` runs calibration and test anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from weiml.errors import WeimlError
from weiml.train.plans import Plan, run_plan

PLAN = Path(__file__).resolve().parent.parent / "configs/plans/clicks.toml"


def show(text: str, done: float | None = None, total: float | None = None) -> None:
    """Print how far the run is."""
    where = f" [{done:,.0f}/{total:,.0f}]" if done is not None and total else ""
    print(f"{text}{where}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; 2 for errors, told in one line, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.plan", description=__doc__)
    parser.add_argument("plan", type=Path, nargs="?", default=PLAN, help="a TOML file")
    parser.add_argument("--out", type=Path, help="where stages are kept; runs/NAME of the plan")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KNOB=VALUE")
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")
    arguments = parser.parse_args(argv)
    out = arguments.out or Path("runs") / f"plan-{arguments.plan.stem}"
    try:
        result = run_plan(Plan.from_toml(arguments.plan, arguments.set), out, progress=show)
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(json.dumps(result.to_mapping(), indent=1) if arguments.json else result.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
