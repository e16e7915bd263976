"""``weiml train`` and ``weiml evaluate``: from encoded batches to a model and its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import Console, JsonOption, SetOption, speaking, table
from weiml.config import from_mapping, load_config, parse_overrides

if TYPE_CHECKING:
    from weiml.train import Progress, ProgressCallback, TrainConfig, TrainResult

__all__ = ["ConfigOption", "ModelArgument", "evaluate", "read_config", "train"]

ConfigOption = Annotated[
    Path | None, typer.Option(help="A TrainConfig as TOML, such as configs/models/lr.toml.")
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder.")]


def train(
    features: Annotated[
        Path,
        typer.Argument(help="Folder with the data sets train/ and, if any, validation/."),
    ],
    output: Annotated[Path, typer.Argument(help="Folder to write the model to; must be new.")],
    config: ConfigOption = None,
    set_: SetOption = [],  # noqa: B006 - typer reads it, and copies
    json: JsonOption = False,
) -> None:
    """Train a model on encoded batches and keep its best epoch.

    Example: weiml train runs/features models/lr --set model=lr --set epochs=3
    """
    with speaking(json) as console:
        settings = read_config(config, set_)
        from weiml.data import BatchDataset
        from weiml.train import Trainer
        from weiml.train.trainer import check_new_folder

        check_new_folder(output)
        training = BatchDataset.open(features / "train")
        held_out = features / "validation"
        validation = BatchDataset.open(held_out) if held_out.exists() else None
        with _epochs(console) as progress:
            result = Trainer(settings).fit(training, validation, progress=progress)
        result.save(output)
        payload = {
            "model": settings.model_config.name,
            "folder": output,
            "version": result.version,
            "best_epoch": result.best_epoch,
            "history": result.history,
        }
        console.result(payload, _summary(result, output))


def evaluate(
    model: ModelArgument,
    dataset: Annotated[Path, typer.Argument(help="A data set folder, such as runs/features/test.")],
    json: JsonOption = False,
) -> None:
    """Score a data set with a model: AUC, GAUC, log-loss, calibration and NDCG@10.

    Example: weiml evaluate models/lr runs/features/test --json
    """
    with speaking(json) as console:
        from weiml.data import BatchDataset
        from weiml.models import Predictor
        from weiml.train import evaluate_model

        predictor = Predictor.load(model)
        data = BatchDataset.open(dataset)
        metrics, _ = evaluate_model(predictor, data)
        payload = {
            "model": model,
            "version": predictor.version,
            "dataset": dataset,
            "examples": data.num_examples,
            "metrics": metrics,
        }
        console.result(payload, table(["METRIC", "VALUE"], list(metrics.items())))


def read_config(path: Path | None, overrides: list[str]) -> TrainConfig:
    """Read a training configuration: the file if there is one, and what was set on top."""
    from weiml.train import TrainConfig

    if path is None:
        return from_mapping(TrainConfig, parse_overrides(overrides), where="--set")
    return load_config(TrainConfig, path, overrides)


@contextlib.contextmanager
def _epochs(console: Console) -> Iterator[ProgressCallback]:
    """Show a bar that is taken away on a terminal, and a line an epoch elsewhere."""
    from rich.console import Console as Screen
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    screen = Screen(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        bar = bars.add_task("starting", total=None)

        def show(at: Progress) -> None:
            text = (
                f"epoch {at.epoch}/{at.epochs}  loss {at.loss:.4f}  "
                f"{at.examples_per_second:,.0f} examples/s"
            )
            bars.update(bar, description=text, completed=at.step, total=at.steps)
            if at.step == at.steps and not screen.is_terminal:
                console.note(text)

        yield show


def _summary(result: TrainResult, folder: Path) -> str:
    heads = ["EPOCH", "TRAIN LOSS", "VALIDATION AUC", "VALIDATION LOG-LOSS", "EXAMPLES/S", "BEST"]
    rows: list[tuple[Any, ...]] = [
        (
            entry["epoch"],
            entry["train_loss"],
            entry.get("validation_auc", "-"),
            entry.get("validation_log_loss", "-"),
            round(entry["examples_per_second"]),
            "*" if entry["epoch"] == result.best_epoch else "",
        )
        for entry in result.history
    ]
    return f"{table(heads, rows)}\nmodel {result.version} saved to {folder}"
