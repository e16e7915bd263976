"""Serve several rankers side by side in each replica, over one feature view, and compare them.

Run it with ``python -m serve.ranker NAME=FOLDER … --view FOLDER``; see README.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from weiml.config import from_mapping, load_config, parse_overrides
from weiml.data import FeatureView
from weiml.errors import ConfigError, WeimlError
from weiml.serving import Client, ServingConfig, deploy, serve_forever

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    models: Annotated[
        list[str], typer.Argument(metavar="NAME=FOLDER…", help="Saved models by name.")
    ],
    view: Annotated[Path, typer.Option(help="The feature view's folder.")],
    config: Annotated[Path | None, typer.Option(help="As in configs/serving.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="Set a knob.")
    ] = None,
    ask: Annotated[
        str | None, typer.Option(metavar="USER", help="Rank for one user, print, and end.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many items --ask prints.")] = 10,
) -> None:
    """Serve models over HTTP until Ctrl-C, or ask them once for a user's feed."""
    settings = _settings(models, view, config, set_ or [])
    if ask is not None:
        with deploy(settings):
            typer.echo(_compare(settings, ask, top_k))
        return
    serve_forever(settings, on_ready=_announce)


def _settings(
    models: list[str], view: Path, config: Path | None, overrides: list[str]
) -> ServingConfig:
    named = dict(model.partition("=")[::2] for model in models)
    if not all(named) or not all(named.values()):
        raise ConfigError(f"models are given as NAME=FOLDER, got {' '.join(models)}")
    texts = [f"models.{name}={folder!r}" for name, folder in named.items()]
    texts = [*overrides, *texts, f"view={str(view)!r}"]
    if config is None:
        return from_mapping(ServingConfig, parse_overrides(texts), where="serve.ranker")
    return load_config(ServingConfig, config, texts)


def _compare(settings: ServingConfig, user: str, top_k: int) -> str:
    """Return the first items of a user's feed by each model, side by side."""
    view = FeatureView.load(str(settings.view))
    items = view.items.ids().to_pylist()
    known: int | str = int(user) if isinstance(view.users.ids()[0].as_py(), int) else user
    columns = []
    with Client(settings.url) as client:
        for model in settings.models:
            answer = client.rank(known, items, timestamp=int(time.time()), model=model, top_k=top_k)
            lines = [f"{model} ({answer.model_version})"]
            lines += [
                f"{row['score']:.4f} {row.get('title', row['item_id'])}" for row in answer.rows()
            ]
            width = max(map(len, lines))
            columns.append([line.ljust(width) for line in lines])
    return "\n".join("   ".join(row).rstrip() for row in zip(*columns, strict=True))


def _announce(state: dict[str, Any]) -> None:
    name = next(iter(state["models"]))
    typer.echo(f"serving {', '.join(state['models'])} at {state['url']}; Ctrl-C ends it")
    body = '{"inputs": [{"name": "user_id", "shape": [1], "datatype": "INT64", "data": [1]}, '
    body += '{"name": "item_id", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]}]}'
    typer.echo(f"try: curl -d '{body}' {state['url']}/v2/models/{name}/infer")


def main() -> None:
    """Run from the command line; errors in one line and exit code 2, Ctrl-C 130."""
    try:
        app(standalone_mode=False)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (WeimlError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # what typer says of the command line
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        print(f"error: {message()}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
