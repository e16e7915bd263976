"""``weiml models``: which models there are, and the knobs of each."""

from __future__ import annotations

import ast
import inspect
import json as json_form
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

import weiml
from weiml.cli.console import JsonOption, speaking, table
from weiml.cli.knobs import Knob, knobs_of
from weiml.config import nearest
from weiml.errors import ConfigError

__all__ = ["models"]

_TREES = {"gbdt": "weiml.models.trees.config:GBDTConfig"}
"""Trained in their own way, so they are no `Model`."""
_ABOUT_TREES = "Gradient-boosted trees: grown by LightGBM on a group of workers."
_GENERAL = "docs/models.md"


def models(
    name: Annotated[str | None, typer.Argument(help="Of one model: show its knobs.")] = None,
    json: JsonOption = False,
) -> None:
    """List the models that weiml train knows, or the knobs of one with their defaults.

    Example: weiml models din; then weiml train … --set model.name=din --set model.max_length=30
    """
    with speaking(json) as console:
        if name is None:
            listed = _list()
            rows = [(entry["name"], entry["about"], entry["doc"] or "-") for entry in listed]
            console.result(listed, table(["MODEL", "WHAT IT IS", "PAGE"], rows))
            return
        entry = _describe(name)
        knobs = list(knobs_of(_config_class(name)))
        payload = {**entry, "knobs": [knob._asdict() for knob in knobs]}
        console.result(payload, _text(entry, knobs))


def _list() -> list[dict[str, Any]]:
    from weiml.models.registry import MODELS

    return [_describe(name) for name in sorted({*MODELS, *_TREES})]


def _describe(name: str) -> dict[str, Any]:
    return {"name": name, "about": _about(name), "doc": _page(name)}


def _home(name: str) -> Any:
    from weiml.models.registry import MODELS

    known = {**MODELS, **_TREES}
    if name not in known:
        raise ConfigError(f"unknown model {name!r}{nearest(name, known)}")
    return known[name]


def _about(name: str) -> str:
    """Return the first line of the module's docstring; what is in weiml is not imported for it."""
    if name in _TREES:
        return _ABOUT_TREES
    home = _home(name)
    if isinstance(home, str):
        parts = home.partition(":")[0].split(".")[1:]
        source = Path(weiml.__file__).parent.joinpath(*parts).with_suffix(".py")
        doc = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    else:
        doc = inspect.getdoc(sys.modules[home.__module__]) or inspect.getdoc(home)
    return (doc or "").split("\n\n")[0].replace("\n", " ")


def _page(name: str) -> str | None:
    """Return the model's page, as from the project's root; None where the pages are not here."""
    root = Path(weiml.__file__).parent.parent
    pages = (f"docs/models/{name}.md", _GENERAL)
    return next((page for page in pages if (root / page).exists()), None)


def _config_class(name: str) -> type[Any]:
    if name in _TREES:
        from weiml.models.trees.config import GBDTConfig

        return GBDTConfig
    from weiml.models.registry import model_class

    _home(name)
    return model_class(name).config_class


def _text(entry: dict[str, Any], knobs: list[Knob]) -> str:
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    lines = [f"{entry['name']}: {entry['about']}"]
    if entry["doc"]:
        lines.append(f"page: {entry['doc']}")
    lines.append(f"set with --set model.name={entry['name']} --set model.KNOB=VALUE")
    for knob in knobs:
        lines += ["", f"{knob.name} = {_value(knob.default)}"]
        lines += textwrap.wrap(knob.doc, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _value(default: Any) -> str:
    """Return a default as TOML would have it; TOML has no null."""
    return "none" if default is None else json_form.dumps(default, ensure_ascii=False)
