"""``weiml ps rows``: what a table holds of some keys, or its largest rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weiml.cli.console import JsonOption, speaking, table
from weiml.cli.ps.connection import AddressOption, NameArgument, connected
from weiml.config import nearest
from weiml.errors import ConfigError

if TYPE_CHECKING:
    from weiml.ps import Client

__all__ = ["rows"]

_SHOWN = 6  # numbers of a row, without --json


def rows(
    name: NameArgument,
    table_name: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]…", help="Keys, decimal or 0x….")
    ] = None,
    hashed: Annotated[
        list[str] | None,
        typer.Option("--hash", metavar="FEATURE=VALUE", help="The key of a feature's value."),
    ] = None,
    feature_type: Annotated[
        str,
        typer.Option("--type", metavar="TYPE", help="The type of the features of --hash."),
    ] = "categorical",
    top: Annotated[
        int | None, typer.Option(metavar="N", help="The N rows with the largest weights.")
    ] = None,
    state: Annotated[bool, typer.Option("--state", help="Show the optimizer's state too.")] = False,
    address: AddressOption = "auto",
    json: JsonOption = False,
) -> None:
    """Show weights, state and statistics of rows, by key, by feature value or by size.

    A key without a row is shown as it would start. With --json the state is always there.

    Example: weiml ps rows feed wide --hash genres=Drama --type sparse_binary
    """
    with speaking(json) as console:
        wanted = [(_key(text), text) for text in keys or []] + [
            _hash(text, feature_type) for text in hashed or []
        ]
        if (top is None) == (not wanted):
            raise ConfigError("give keys (KEY… or --hash FEATURE=VALUE) or --top N, one of the two")
        if top is not None and top < 1:
            raise ConfigError(f"--top must be 1 or more, got {top}")
        with connected(name, address) as server:
            client = server.client()
            if top is not None:
                best, _ = client.call("top_rows", table_name, top).wait()
                wanted = [(key, str(key)) for key in best.tolist()]
            found = _rows(client, table_name, wanted)
        console.result(found, _text(found, state))


def _key(text: str) -> int:
    try:
        key = int(text, 0)
    except ValueError:
        key = -1
    if not 0 <= key < 2**64:
        raise ConfigError(f"a key must be 0 … 2⁶⁴-1, decimal or 0x…, got {text!r}")
    return key


def _hash(text: str, feature_type: str) -> tuple[int, str]:
    from weiml.hashing import TypeTag, hash_key

    tags = {tag.name.lower(): tag for tag in TypeTag}
    if feature_type not in tags:
        raise ConfigError(f"unknown feature type {feature_type!r}{nearest(feature_type, tags)}")

    feature, equals, value = text.partition("=")
    if not (feature and equals):
        raise ConfigError(f"--hash needs FEATURE=VALUE, got {text!r}")
    return hash_key(feature, value, tags[feature_type]), text


def _rows(client: Client, name: str, wanted: list[tuple[int, str]]) -> list[dict[str, Any]]:
    import numpy as np

    keys = np.array([key for key, _ in wanted], np.uint64)
    asked = [client.pull(name, keys), client.pull(name, keys, "state")]
    counted = client.call("row_statistics", name, keys=np.unique(keys))
    weights, state = (client.wait(ticket) for ticket in asked)
    order, present, statistics = counted.wait()
    places = {key: place for place, key in enumerate(order.tolist())}
    return [
        {
            "key": key,
            "asked": text,
            "present": bool(present[places[key]]),
            "norm": float(np.linalg.norm(weights[at].astype(np.float64))),
            "weights": weights[at].tolist(),
            "state": state[at].tolist(),
            "statistics": {n: values[places[key]].item() for n, values in statistics.items()},
        }
        for at, (key, text) in enumerate(wanted)
    ]


def _text(rows: list[dict[str, Any]], state: bool) -> str:
    if not rows:
        return "the table has no rows"
    statistics = list(rows[0]["statistics"])
    named = any(row["asked"] != str(row["key"]) for row in rows)
    heads = ["KEY", *(["ASKED"] if named else []), "ROW", "NORM", "WEIGHTS"]
    heads += [name.upper() for name in statistics] + (["STATE"] if state else [])
    body = [
        [
            row["key"],
            *([row["asked"]] if named else []),
            "yes" if row["present"] else "no",
            row["norm"],
            _numbers(row["weights"]),
            *(row["statistics"][name] for name in statistics),
            *([_numbers(row["state"])] if state else []),
        ]
        for row in rows
    ]
    return table(heads, body)


def _numbers(values: Iterable[float]) -> str:
    texts = [f"{value:.6g}" for value in values]
    more = f" … ({len(texts)})" if len(texts) > _SHOWN else ""
    return " ".join(texts[:_SHOWN]) + more
