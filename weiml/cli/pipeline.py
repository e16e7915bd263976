"""What feature programs share: a command line around one function from raw tables to examples.

The program says how examples come about; fetching, splitting the work between this process and
Ray, encoding, writing and telling are the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from weiml.config import load_config
from weiml.data import (
    BatchDataset,
    Examples,
    FileSource,
    ProgressCallback,
    fetch,
    rich_progress,
)
from weiml.data.quality import Checks, TableStatistics, read_statistics
from weiml.errors import ConfigError, DataError, WeimlError
from weiml.features import FeatureSpec, KeyNames

__all__ = ["Prepare", "Tables", "run_pipeline"]

Tables = Callable[[str], Examples]
"""Returns the examples of one of the data set's tables, by its name."""
Prepare = Callable[[Tables], Mapping[str, Examples]]
"""Returns examples by the name of their part; ``train`` must be among them."""


def run_pipeline(
    prepare: Prepare,
    *,
    name: str,
    dataset: str,
    spec: Path,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a feature program from its command line: raw tables to data sets of batches.

    Args:
        prepare: how examples come about.
        name: the program's, as ``python -m NAME``; the first line of its docstring is its help.
        dataset: the data set to read unless another is named, see `fetch`.
        spec: the feature spec, a TOML file.
        argv: the command line; this process's if None.

    Returns:
        The exit code: 2 for errors, told in one line, 130 for Ctrl-C.
    """
    arguments = _parser(name, prepare.__doc__ or "", dataset, spec).parse_args(argv)
    try:
        with rich_progress() as progress:
            told = _run(prepare, arguments, progress)
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(told, indent=1) if arguments.json else _text(told))
    return 0


def _parser(name: str, about: str, dataset: str, spec: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about.split("\n")[0])
    folder = Path("runs") / name.rpartition(".")[2]
    parser.add_argument("--out", type=Path, default=folder, help=f"a new folder; {folder}")
    parser.add_argument("--dataset", default=dataset, help=f"of `weiml data ls`; {dataset}")
    parser.add_argument("--spec", type=Path, default=spec, help="the feature spec, a TOML file")
    parser.add_argument("--engine", choices=("auto", "local", "ray"), default="auto")
    parser.add_argument("--partitions", type=int, help="of exchanges; by the size of the data")
    parser.add_argument(
        "--checks", type=Path, help="bounds on the part 'train', a TOML file of Checks"
    )
    parser.add_argument(
        "--reference", type=Path, help="what 'train' must not drift from: statistics or data"
    )
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")
    return parser


def _run(
    prepare: Prepare, arguments: argparse.Namespace, progress: ProgressCallback
) -> dict[str, Any]:
    out: Path = arguments.out
    if out.is_file() or (out.exists() and any(out.iterdir())):
        raise DataError(f"{out} is not empty: name another folder with --out, or remove it")
    spec = FeatureSpec.from_toml(arguments.spec)
    folder = fetch(arguments.dataset, progress=progress)

    def tables(name: str) -> Examples:
        read = FileSource(str(folder / f"{name}.parquet")).read()
        return read.using(engine=arguments.engine, partitions=arguments.partitions)

    parts = prepare(tables)
    if "train" not in parts:
        raise ConfigError(f"there must be a part 'train' to fit on, got {sorted(parts)}")
    statistics = _checked(parts["train"], arguments)
    encoder = parts["train"].fit_encoder(spec)
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.writing")
    names = KeyNames()
    try:
        written = {name: part.write_batches(aside / name, encoder) for name, part in parts.items()}
        for dataset in written.values():
            names.merge(dataset.names())
        if statistics is not None:
            statistics.save(aside / "statistics.json")
        os.rename(aside, out)  # all parts, or none
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return {
        "folder": str(out),
        "parts": {name: _counts(dataset) for name, dataset in written.items()},
        "slots": list(encoder.spec.slots),
        "dense": list(encoder.spec.dense),
        "distinct_values": names.to_table().num_rows,
        "collisions": names.collisions().lost,
    }


def _checked(train: Examples, arguments: argparse.Namespace) -> TableStatistics | None:
    """Return the statistics of what is trained on, if they were asked for and are well."""
    if arguments.checks is None and arguments.reference is None:
        return None
    checks = load_config(Checks, arguments.checks) if arguments.checks else Checks()
    before = read_statistics(arguments.reference) if arguments.reference else None
    return train.check(checks, before)


def _counts(dataset: BatchDataset) -> dict[str, int]:
    return {"examples": dataset.num_examples, **dataset.counts}


def _text(told: Mapping[str, Any]) -> str:
    lines = [f"{'part':<12}{'examples':>12}{'positives':>12}{'keys':>14}"]
    for name, counts in told["parts"].items():
        numbers = (counts["examples"], counts["positives"], counts["keys"])
        lines.append(f"{name:<12}{numbers[0]:>12,}{numbers[1]:>12,}{numbers[2]:>14,}")
    lines += [
        f"{len(told['slots'])} slots, {len(told['dense'])} dense columns, "
        f"{told['distinct_values']:,} values, {told['collisions']} collisions",
        f"features: {told['folder']}",
        f"train a model: weiml train {told['folder']} {told['folder']}/model --set model=lr",
    ]
    return "\n".join(lines)
