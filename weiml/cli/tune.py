"""``weiml tune``: a Bayesian search over training configurations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import JsonOption, SetOption, speaking, table
from weiml.cli.train import ConfigOption

if TYPE_CHECKING:
    from weiml.search import SearchResult

__all__ = ["tune"]


def tune(
    features: Annotated[
        Path, typer.Argument(help="Folder with the data sets train/ and validation/.")
    ],
    output: Annotated[
        Path, typer.Argument(help="Folder of the search; the same one goes on with it.")
    ],
    plan: Annotated[
        Path, typer.Option(help="Space and knobs as TOML, such as configs/search/feed.toml.")
    ],
    config: ConfigOption = None,
    trials: Annotated[int | None, typer.Option(help="Trials in all; default the plan's.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Trials at a time; default as many as there are cores.")
    ] = None,
    set_: SetOption = [],  # noqa: B006 - typer reads it, and copies
    json: JsonOption = False,
) -> None:
    """Search for the best training configuration on the validation set; resumable.

    Example: weiml tune runs/features runs/search --plan configs/search/feed.toml --trials 8
    """
    with speaking(json) as console:
        from weiml.data import BatchDataset
        from weiml.search import load_plan, search

        read = load_plan(plan, set_)
        for name in ("train", "validation"):
            BatchDataset.open(features / name)  # what is missing shows now, not in each trial
        objective = read.make_objective(
            train=features / "train", validation=features / "validation", config=config
        )
        run = read.make_config(
            folder=output.parent, name=output.name, trials=trials, concurrency=concurrency
        )
        objective.configuration(read.parameters.defaults())  # a misspelt name shows now
        result = search(objective, read.parameters, run, _tell)
        best = objective.configuration(result.best_params)
        result.save(output, best)
        console.result(_payload(result, best, output), _text(result, output))


def _tell(text: str, *, done: int | None = None, total: int | None = None) -> None:
    """Show how far the search is; a plain function, since Tune pickles what it is given."""
    print(text if done is None else f"[{done}/{total}] {text}", file=sys.stderr, flush=True)


def _payload(result: SearchResult, best: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "folder": folder,
        "metric": result.metric,
        "best_value": result.best_value,
        "best_params": result.best_params,
        "config": best,
        "new_trials": result.num_new,
        "trials": result.to_mapping()["trials"],
    }


def _text(result: SearchResult, folder: Path) -> str:
    names = list(result.best_params)
    rows = [
        (
            trial.number,
            trial.state.value,
            "-" if trial.value is None else trial.value,
            *(trial.params.get(name, "-") for name in names),
        )
        for trial in result.trials
    ]
    text = table(["TRIAL", "STATE", result.metric.upper(), *names], rows)
    best = f"best: trial {result.best.number}, {result.metric} {result.best_value:.4f}"
    return f"{text}\n{best}\nsaved to {folder}"
