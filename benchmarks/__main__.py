"""Run all benchmarks, each in a process of its own: ``python -m benchmarks [--quick] [NAME …]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = {
    "__main__",
    "contest",
    "generate",
    "harness",
    "kills",
    "out_of_core",
    "readers",
    "row_peers",
    "tensorflow_readers",
    "vowpal",
    "zipf",
}


def main() -> int:
    """Run the named benchmarks, or all; the exit code is 1 where one failed to run."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED)
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="at most 50 s each, on less data")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    failed = []
    for name in arguments.names or known:
        print(f"== benchmarks.{name}", file=sys.stderr, flush=True)
        options = ["--report", str(HERE.parent / "docs" / "reports")]
        quick = ["--quick"] if arguments.quick else []
        command = [sys.executable, "-m", f"benchmarks.{name}", *quick, *options]
        if subprocess.run(command, cwd=HERE.parent).returncode != 0:
            failed.append(name)
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
