"""``weiml train``: from encoded batches to a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import Console, JsonOption, SetOption, speaking, table

if TYPE_CHECKING:
    from weiml.train import Teller, Trained

__all__ = ["ConfigOption", "train"]

ConfigOption = Annotated[
    Path | None, typer.Option(help="A training file (TOML), such as configs/models/lr.toml.")
]
_MOST_ROWS = 12  # of the table at the end


def train(
    features: Annotated[
        Path,
        typer.Argument(help="Folder with the data sets train/ and, if any, validation/."),
    ],
    output: Annotated[Path, typer.Argument(help="Folder to write the model to; must be new.")],
    config: ConfigOption = None,
    set_: SetOption = [],  # noqa: B006 - typer reads it, and copies
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep checkpoints here. The same command goes on from the newest, to the bit.",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the stages of all steps, for ui.perfetto.dev."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a model on encoded batches and keep its best epoch.

    Which models there are, and their knobs: weiml models [NAME]. A file with the model gbdt grows
    boosted trees; one with a table [solver] runs L-BFGS or OWL-QN to the optimum.

    Exit code 3: training diverged; the message names the examples and the last good checkpoint.

    Example: weiml train runs/features models/dnn --set model.name=dnn --checkpoints runs/dnn
    """
    with speaking(json) as console:
        from weiml.data import BatchDataset
        from weiml.train import load_recipe, train_recipe
        from weiml.train.trainer import check_new_folder

        recipe = load_recipe(config, set_)
        check_new_folder(output)
        training = BatchDataset.open(features / "train")
        held_out = features / "validation"
        validation = BatchDataset.open(held_out) if held_out.exists() else None
        with _telling(console) as tell:
            trained = train_recipe(
                recipe, training, validation, tell=tell, checkpoints=checkpoints, trace=trace
            )
        version = trained.save(output)
        payload = {
            "model": trained.model,
            "folder": output,
            "version": version,
            f"best_{trained.unit}": trained.best,
            "stopped": trained.stopped or None,
            "history": trained.history,
        }
        console.result(payload, f"{_summary(trained)}\nmodel {version} saved to {output}")


class _Tell:
    """Tells on stderr: a bar that is taken away on a terminal, a line for what is routine else."""

    def __init__(self, console: Console, update: Callable[..., None], *, terminal: bool) -> None:
        self._console = console
        self._update = update
        self._terminal = terminal

    def progress(self, text: str, done: float, total: float) -> None:
        """See `Teller.progress`."""
        self._update(description=text, completed=done, total=total)

    def note(self, text: str, *, routine: bool = False) -> None:
        """See `Teller.note`."""
        if not (routine and self._terminal):
            self._console.note(text)


@contextlib.contextmanager
def _telling(console: Console) -> Iterator[Teller]:
    from rich.console import Console as Screen
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Screen(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        bar = bars.add_task("starting", total=None)
        yield _Tell(console, lambda **at: bars.update(bar, **at), terminal=screen.is_terminal)


_HEADS = {
    "epoch": {
        "train_loss": "TRAIN LOSS",
        "validation_auc": "VALIDATION AUC",
        "validation_log_loss": "VALIDATION LOG-LOSS",
        "examples_per_second": "EXAMPLES/S",
    },
    "round": {"validation_auc": "VALIDATION AUC", "validation_log_loss": "VALIDATION LOG-LOSS"},
    "iteration": {
        "objective": "OBJECTIVE",
        "gradient_norm": "GRADIENT",
        "non_zeros": "WEIGHTS",
        "validation_auc": "VALIDATION AUC",
        "validation_log_loss": "VALIDATION LOG-LOSS",
    },
}


def _summary(trained: Trained) -> str:
    columns = _HEADS[trained.unit]
    rows = [
        (
            entry[trained.unit],
            *(_shown(name, entry.get(name, "-")) for name in columns),
            "*" if entry[trained.unit] == trained.best else "",
        )
        for entry in _some(trained)
    ]
    return table([trained.unit.upper(), *columns.values(), "BEST"], rows)


def _some(trained: Trained) -> list[dict[str, Any]]:
    """Return all entries of a short history, else some: the last, the best, others evenly."""
    history = trained.history
    if len(history) <= _MOST_ROWS:
        return history
    last = len(history) - 1
    places = {round(at * last / (_MOST_ROWS - 2)) for at in range(_MOST_ROWS - 1)}
    return [
        entry
        for place, entry in enumerate(history)
        if place in places or entry[trained.unit] == trained.best
    ]


def _shown(name: str, value: Any) -> Any:
    if name == "examples_per_second":
        return round(value)
    return f"{value:.6g}" if name in ("objective", "gradient_norm") else value
