"""Search the hyper-parameters of a feed model on validation, on Ray Tune, with Optuna's sampler.

Run it with ``python -m tune.feed_search`` once ``python -m pipelines.feed`` has made the features;
stopped at any moment, the same command goes on with what is finished.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from weiml.errors import ConfigError, WeimlError
from weiml.flow import load_result
from weiml.search import SearchResult, TrainValidation, TrialState, load_plan, search

ROOT = Path(__file__).resolve().parent.parent

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The search.")] = ROOT / "configs/search/feed.toml",
    train_config: Annotated[Path, typer.Option(help="The training that trials start from.")] = (
        ROOT / "configs/models/wide_deep.toml"
    ),
    runs: Annotated[Path, typer.Option(help="Folder of the flow's runs, for its features.")] = (
        Path("runs")
    ),
    train: Annotated[Path | None, typer.Option(help="A training set; default the flow's.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Its validation set.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Default RUNS/searches.")] = None,
    name: Annotated[str, typer.Option(help="A search's name; the same one goes on.")] = "feed",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="As in --set search.trials=20."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the best point as JSON.")] = False,
) -> None:
    """Search and print the best point; best.json and trials.json are kept with the search."""
    plan = load_plan(config, set_ or [])
    train, validation = _data(runs, train, validation)
    objective = plan.make_objective(train=train, validation=validation, config=train_config)
    knobs = plan.make_config(folder=folder or runs / "searches", name=name)
    result = search(objective, plan.parameters, knobs, _say)
    result.save(knobs.home, objective.configuration(result.best_params))
    if as_json:
        typer.echo((knobs.home / "best.json").read_text())
    else:
        _show(result, knobs.home)
    if isinstance(objective, TrainValidation):
        _say(f"train it with the overrides {json.dumps(_overrides(result))}")


def _data(runs: Path, train: Path | None, validation: Path | None) -> tuple[Path, Path]:
    if train is not None and validation is not None:
        return train, validation
    if train is not None or validation is not None:
        raise ConfigError("give --train and --validation together, or neither")
    made = load_result(runs, flow="feed")
    return made.artifact("features.train"), made.artifact("features.validation")


def _say(text: str, *, done: int | None = None, total: int | None = None) -> None:
    place = f"[{done}/{total}] " if done is not None else ""
    typer.echo(place + text, err=True)


def _show(result: SearchResult, home: Path) -> None:
    failed = sum(trial.state is TrialState.FAILED for trial in result.trials)
    typer.echo(
        f"{len(result.trials)} trials ({failed} failed, {result.num_new} new) in "
        f"{result.seconds:.1f} s; best {result.metric} {result.best_value:.5f} in trial "
        f"{result.best.number}:"
    )
    for name, value in result.best_params.items():
        share = f"  (importance {result.importance[name]:.0%})" if result.importance else ""
        typer.echo(f"  {name} = {value}{share}")
    typer.echo(home / "best.json")


def _overrides(result: SearchResult) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in result.best_params.items()]


def main() -> None:
    """Run from the command line; errors in one line and exit code 2, Ctrl-C 130."""
    try:
        app(standalone_mode=False)
    except WeimlError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except typer.Exit as done:
        sys.exit(done.exit_code)


if __name__ == "__main__":
    main()
