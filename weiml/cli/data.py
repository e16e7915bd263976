"""``weiml data``: the data sets that weiml knows and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weiml.cli.console import JsonOption, speaking, table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List and fetch data sets.")


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
