"""``weiml serve``: models behind HTTP, here or in the background."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import JsonOption, SetOption, speaking
from weiml.config import from_mapping, load_config, parse_overrides
from weiml.errors import ConfigError

if TYPE_CHECKING:
    from weiml.serving import ServingConfig

__all__ = ["serve"]


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=FOLDER | NAME@VERSION]…",
            help="Models by name: a folder, or with --registry a version, alias or latest.",
        ),
    ] = None,
    view: Annotated[
        Path | None, typer.Option(help="The feature view's folder, to look features up in.")
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="The model registry's folder.")] = None,
    port: Annotated[int | None, typer.Option(help="Default 8000; always on loopback.")] = None,
    config: Annotated[Path | None, typer.Option(help="A ServingConfig as TOML.")] = None,
    set_: SetOption = [],  # noqa: B006 - typer reads it, and copies
    detach: Annotated[
        bool, typer.Option("--detach", help="Serve in the background and come back.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End what --detach started.")] = False,
    folder: Annotated[
        Path, typer.Option(help="State and log of what runs in the background.")
    ] = Path("runs/endpoint"),
    json: JsonOption = False,
) -> None:
    """Serve models over HTTP by the Open Inference Protocol v2, until Ctrl-C.

    Example: weiml serve feed=models/lr --view runs/features/view --detach
    """
    with speaking(json) as console:
        from weiml.serving import serve_forever, start_background, stop_background

        if stop:
            if models or detach:
                raise ConfigError("--stop goes with --folder only")
            stopped = stop_background(folder)
            text = "stopped" if stopped else f"nothing runs from {folder}"
            console.result({"stopped": stopped, "folder": folder}, text)
            return
        settings = _config(models or [], registry, config, _overrides(set_, view, port))
        if detach:
            console.note("starting; this takes a while")
            state = start_background(settings, folder)
            console.result(state, f"{_text(state)}\nstop it: weiml serve --stop --folder {folder}")
            return
        console.note("starting; Ctrl-C ends it")
        serve_forever(settings, on_ready=lambda state: console.result(state, _text(state)))


def _overrides(given: list[str], view: Path | None, port: int | None) -> list[str]:
    more = [] if view is None else [f"view={_toml(view)}"]
    return [*given, *more, *([] if port is None else [f"port={port}"])]


def _config(
    models: list[str], registry: Path | None, path: Path | None, overrides: list[str]
) -> ServingConfig:
    from weiml.serving import ServingConfig

    named = [f"models.{name}={_toml(place)}" for name, place in map(_named(registry), models)]
    if path is not None:
        return load_config(ServingConfig, path, [*overrides, *named])
    if not named:
        raise ConfigError("nothing to serve: give NAME=FOLDER, NAME@VERSION, or --config")
    return from_mapping(ServingConfig, parse_overrides([*overrides, *named]), where="serve")


def _named(registry: Path | None) -> Any:
    """Return a function that reads ``NAME=FOLDER`` or ``NAME@VERSION`` as (name, folder)."""

    def read(text: str) -> tuple[str, Path]:
        name, equals, place = text.partition("=")
        if equals:
            return name, Path(place)
        name, at, version = text.partition("@")
        if not at:
            raise ConfigError(f"a model is NAME=FOLDER or NAME@VERSION, got {text!r}")
        if registry is None:
            raise ConfigError(f"{text!r} needs --registry, the folder of the model registry")
        from weiml.serving import ModelRegistry

        return name, ModelRegistry(registry, create=False).get(name, version or "latest").folder

    return read


def _toml(path: Path) -> str:
    from json import dumps

    return dumps(str(path))  # JSON's strings are TOML's basic strings


def _text(state: dict[str, Any]) -> str:
    names = ", ".join(state["models"])
    return f"serving {names} at {state['url']} (pid {state['pid']})"
