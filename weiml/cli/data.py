"""``weiml data``: data sets that weiml knows, conversion of files, statistics and drift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from weiml.cli.console import JsonOption, speaking, table
from weiml.config import load_config, to_mapping

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Fetch, convert and inspect data.")


@app.command("ls")
def list_(json: JsonOption = False) -> None:
    """List the data sets that can be fetched.

    Example: weiml data ls
    """
    from weiml.data import list_datasets

    with speaking(json) as console:
        datasets = [
            {
                "name": dataset.name,
                "description": dataset.description,
                "tables": list(dataset.tables),
                "licence": dataset.licence,
                "home": dataset.home,
            }
            for dataset in list_datasets()
        ]
        rows = [(entry["name"], entry["description"]) for entry in datasets]
        console.result(datasets, table(["NAME", "WHAT IT IS"], rows))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `weiml data ls`.")],
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where to keep it; default $WEIML_HOME or ~/.cache/weiml.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fetch a data set once, check it and print the folder of its Parquet files.

    Example: weiml data fetch movielens-100k
    """
    import pyarrow.parquet as pq

    from weiml.data import fetch as fetch_dataset

    with speaking(json) as console:
        folder = fetch_dataset(name, cache_dir)
        counts = {
            file.stem: pq.read_metadata(file).num_rows for file in sorted(folder.glob("*.parquet"))
        }
        lines = [str(folder), *(f"  {table}: {rows:,} rows" for table, rows in counts.items())]
        console.result({"name": name, "folder": folder, "rows": counts}, "\n".join(lines))


FormatOption = Annotated[str, typer.Option(help="Format of the file; told from its name if empty.")]


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="The file to read.")],
    target: Annotated[Path, typer.Argument(help="The file to write; replaced when whole.")],
    source_format: FormatOption = "",
    target_format: FormatOption = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows that cannot be read, and name them.")
    ] = False,
    round_floats: Annotated[
        bool,
        typer.Option("--round-floats", help="Round float64 to float32, for formats without it."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Convert a data file from one format to another, told by the files' names.

    Formats: parquet, arrow, csv, tsv, jsonl, tfrecord, libsvm, libffm, vw; all but the first two
    may end in .gz, .zst or .bz2. With --skip-bad each bad row is named on stderr.

    Example: weiml data convert clicks.csv.gz clicks.parquet
    """
    from weiml.data.formats import BadRow, TfRecord, format_of
    from weiml.data.formats import convert as convert_file

    with speaking(json) as console:

        def told(row: BadRow) -> None:
            console.note(f"{source}: {row.place} left out: {row.reason}")

        written = format_of(str(target), target_format or None)
        if round_floats and isinstance(written, TfRecord):
            written = replace(written, round_floats=True)
        done = convert_file(
            source,
            target,
            source_format=source_format or None,
            target_format=written,
            on_bad=told if skip_bad else None,
        )
        columns = {field.name: str(field.type) for field in done.schema}
        payload = {"target": target, "rows": done.rows, "bad_rows": done.bad_rows}
        left_out = f", {done.bad_rows:,} left out" if done.bad_rows else ""
        text = f"{target}: {done.rows:,} rows, {len(columns)} columns{left_out}"
        console.result(payload | {"columns": columns}, text)


@app.command()
def stats(
    path: Annotated[Path, typer.Argument(help="A data file, a folder of them, or saved .json.")],
    out: Annotated[
        Path | None, typer.Option(help="Also save the statistics here, as .json.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what each feature of some data is like: missing, zeros, range, frequent values.

    Example: weiml data stats clicks.parquet --out monday.json
    """
    from weiml.data.quality import SUMMARY_HEADS, read_statistics, summary_rows

    with speaking(json) as console:
        seen = read_statistics(path)
        if out is not None:
            seen.save(out)
        rows = summary_rows(seen)
        text = table(SUMMARY_HEADS, rows)
        console.result(seen.to_mapping(), f"{path}: {seen.rows:,} rows\n{text}")


@app.command()
def drift(
    reference: Annotated[Path, typer.Argument(help="What is expected: data or saved .json.")],
    current: Annotated[Path, typer.Argument(help="What is looked at: data or saved .json.")],
    max_psi: Annotated[
        float | None, typer.Option(help="Fail with code 2 if a feature's PSI is above.")
    ] = None,
    ignore: Annotated[
        list[str],
        typer.Option(help="A feature that may drift, as ids and times do; may be given again."),
    ] = [],  # noqa: B006 - typer reads it, and copies
    checks: Annotated[
        Path | None, typer.Option(help="Bounds on features: a Checks as TOML.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two days of data, or training data with what was served, feature by feature.

    Example: weiml data drift monday.json tuesday.parquet --max-psi 0.25 --ignore request_id
    """
    from weiml.data.quality import Bounds, Checks, check, compare, read_statistics, require_none

    with speaking(json) as console:
        before, after = read_statistics(reference), read_statistics(current)
        found = compare(before, after)
        heads = ["FEATURE", "PSI", "L-INF", "JS", "MOST IN", "BEFORE", "NOW"]
        rows = [
            (
                d.feature,
                d.psi,
                d.l_infinity,
                d.jensen_shannon,
                d.worst_bin,
                d.reference_share,
                d.share,
            )
            for d in found
        ]
        console.result([to_mapping(d) for d in found], table(heads, rows))
        bounds = load_config(Checks, checks) if checks else Checks(min_rows=0, all=Bounds())
        if max_psi is not None:
            bounds = replace(bounds, all=replace(bounds.all, max_psi=max_psi))
        bounds = replace(bounds, ignore=(*bounds.ignore, *ignore))
        require_none(check(after, bounds, before), str(current))
