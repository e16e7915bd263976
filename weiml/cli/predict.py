"""``weiml predict``: rank candidates for a user, with a model folder or over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from weiml.cli.console import JsonOption, speaking, table
from weiml.errors import ConfigError

__all__ = ["predict"]


def predict(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    items: Annotated[
        list[str] | None, typer.Argument(help="Ids of the candidates; all items with --model.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A model folder, scored right here.")] = None,
    view: Annotated[
        Path | None, typer.Option(help="With --model: the folder of the feature view.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server, such as http://127.0.0.1:8000.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --url: which model, if the server has several.")
    ] = None,
    timestamp: Annotated[
        int | None, typer.Option(help="When, in seconds since 1970; default now.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to show, best first.")] = 10,
    json: JsonOption = False,
) -> None:
    """Rank candidate items for a user, best first.

    Example: weiml predict 196 242 302 377 --url http://127.0.0.1:8000
    """
    with speaking(json) as console:
        if (model is None) == (url is None):
            raise ConfigError("give either --model (with --view) or --url, and not both")
        if url is not None and not url.startswith(("http://", "https://")):
            raise ConfigError(f"--url must begin with http:// or https://, got {url!r}")
        if model is not None:
            ranked = _rank_here(model, view, user, items or [], timestamp, top)
        else:
            ranked = _rank_there(str(url), name, user, items or [], timestamp, top)
        heads = ["ITEM", "SCORE", "TITLE"]
        rows = [(row["item_id"], row["score"], row.get("title", "")) for row in ranked["items"]]
        text = f"user {user}, model version {ranked['version']}\n{table(heads, rows)}"
        console.result({"user_id": user, **ranked}, text)


def _rank_here(
    model: Path, view: Path | None, user: str, items: list[str], timestamp: int | None, top: int
) -> dict[str, Any]:
    if view is None:
        raise ConfigError("--model needs --view, the feature view's folder, to look features up")
    from weiml.data import FeatureView
    from weiml.models import load_scorer
    from weiml.serving import Servable

    features = FeatureView.load(view)
    ranker = Servable({model.name: load_scorer(model)}, features)
    candidates = [_id(item) for item in items] or features.items.ids().to_pylist()
    ranking = ranker.rank(model.name, _id(user), candidates, timestamp, top_k=top)
    columns = {"item_id": ranking.item_ids.tolist(), "score": ranking.scores.tolist()}
    if ranking.titles is not None:
        columns["title"] = ranking.titles.tolist()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"version": ranking.version, "items": rows}


def _rank_there(
    url: str, name: str | None, user: str, items: list[str], timestamp: int | None, top: int
) -> dict[str, Any]:
    if not items:
        raise ConfigError("--url needs the candidates: weiml predict USER ITEM [ITEM …]")
    from weiml.serving import Client

    with Client(url, model=name) as client:
        answer = client.rank(
            _id(user), [_id(item) for item in items], timestamp=timestamp, top_k=top
        )
    return {"version": answer.model_version, "items": answer.rows()}


def _id(text: str) -> Any:
    """Read an id: a whole number where it looks like one, else text."""
    return int(text) if text.lstrip("-").isdigit() else text
