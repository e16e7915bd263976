"""A group's status and rates as text for a terminal; knows neither Ray nor where it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["picture"]

_MANY_WORKERS = 12
_POLICIES = {
    "not_admitted": "NOT ADMITTED",
    "refused": "REFUSED",
    "evicted": "EVICTED",
    "expired": "EXPIRED",
}
_SHOWN_HOT_KEYS = 5


def picture(status: Mapping[str, Any], rates: Mapping[str, Any]) -> RenderableType:
    """Return all that `weiml ps top` shows of a group's status and of `rates.between`."""
    parts: list[RenderableType] = [_head(status), _totals(status), *_troubles(status), Text()]
    parts += [_shards(status, rates), Text(), _tables(status["shards"]), Text()]
    parts += [_clock(status, rates), *_hot_keys(rates["hot_keys"])]
    return Group(*parts)


class _Flow:
    """Short texts side by side, on as many lines as they need; none is torn in two."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = ""
        for part in self._parts:
            longer = f"{line}  {part}" if line else part
            if line and len(longer) > options.max_width:
                yield Text(line)
                longer = part
            line = longer
        yield Text(line)


def _head(status: Mapping[str, Any]) -> Text:
    bound = status["staleness"]
    kind = {None: "ASP", 0: "BSP"}.get(bound, f"SSP({bound})")
    replicas = status["replicas"]
    text = Text(status["name"], style="bold")
    text.append(f"  {status['state']}", style="green" if status["state"] == "running" else "yellow")
    text.append(
        f"  {_count(status['num_shards'], 'shard')}"
        f" × {_count(replicas, 'replica')}  {_count(status['num_workers'], 'worker')}  {kind}"
        f"  map version {status['version']}",
        style="default",
    )
    return text


def _totals(status: Mapping[str, Any]) -> _Flow:
    parts = [
        f"{status['rows']:,} rows",
        f"{_mebibytes(status['bytes'])} MiB",
        f"sequence {status['sequence']:,}",
        f"failovers {status['failovers']}",
        f"restores {status['restores']}",
        f"checkpoint {status['checkpoint'] or '-'}",
    ]
    return _Flow(parts)


def _troubles(status: Mapping[str, Any]) -> list[Text]:
    lines = []
    if status["degraded"]:
        shards = ", ".join(map(str, status["degraded"]))
        lines.append(Text(f"without all replicas: shard {shards}", style="yellow"))
    for shard, why in status["lost"].items():
        lines.append(Text(f"shard {shard} is gone, {why}", style="red"))
    for what, name in (("lost_writes", "lost writes"), ("dropped_pushes", "dropped pushes")):
        if status[what]:
            lines.append(Text(f"{name}: {status[what]:,}", style="yellow"))
    if status["error"]:
        lines.append(Text(f"last error: {status['error']}", style="red"))
    return lines


def _shards(status: Mapping[str, Any], rates: Mapping[str, Any]) -> Table:
    heads = ["SHARD", "ROWS", "MIB", "KEYS/S", "PULL/S", "PUSH/S", "PULL MS", "PUSH MS", "WAIT"]
    table = _table([*heads, "LAG"])
    for shard in rates["shards"]:
        table.add_row(str(shard["shard"]), *_load(shard))
    if len(rates["shards"]) > 1:
        table.add_section()
        whole = {**rates, "rows": status["rows"], "bytes": status["bytes"]}
        table.add_row("all", *_load(whole), style="bold")
    return table


def _load(part: Mapping[str, Any]) -> list[str]:
    rows = part["rows"]
    return [
        f"{rows:,}" if rows < 10_000_000 else _short(rows),
        _mebibytes(part["bytes"]),
        *(_short(part[f"{what}_per_s"]) for what in ("keys", "pulls", "pushes")),
        _times(part["pull_ms"]),
        _times(part["push_ms"]),
        str(part["waiting"]),
        str(part["replication_lag"]),
    ]


def _tables(shards: Sequence[Mapping[str, Any]]) -> Table:
    sums: dict[str, dict[str, float]] = {}
    for shard in shards:
        for name, details in shard["table_details"].items():
            own = sums.setdefault(name, dict.fromkeys(("rows", "bytes", *_POLICIES), 0))
            for what in own:
                own[what] += details[what]
    # What no table has turned away or deleted takes no room on the screen.
    used = [what for what in _POLICIES if any(own[what] for own in sums.values())]
    table = _table(["TABLE", "ROWS", "MIB", *(_POLICIES[what] for what in used)])
    for name, own in sums.items():
        counts = [f"{own[what]:,}" for what in used]
        table.add_row(name, f"{own['rows']:,}", _mebibytes(own["bytes"]), *counts)
    return table


def _clock(status: Mapping[str, Any], rates: Mapping[str, Any]) -> _Flow:
    live = {str(worker) for worker in status["live"]}
    clocks = {w: ticks for w, ticks in status["clocks"].items() if str(w) in live}
    skew = "-" if rates["skew"] is None else f"{rates['skew']:.2f}"
    parts = [
        f"clocks {_ticks(clocks)}",
        f"fastest {_count(rates['staleness'], 'tick')} ahead",
        f"blocked {_times(rates['blocked_ms'])}",
        f"held pushes {status['held']}",
        f"skew {skew}",
        f"loop lag {_three(rates['loop_lag_ms'])} ms",
    ]
    return _Flow(parts)


def _ticks(clocks: Mapping[Any, int]) -> str:
    if not clocks:
        return "- (no live worker)"
    if len(clocks) <= _MANY_WORKERS:
        return " ".join(f"{worker}:{ticks}" for worker, ticks in clocks.items())
    slowest = sorted(clocks.items(), key=lambda pair: pair[1])[:3]
    named = " ".join(f"{worker}:{ticks}" for worker, ticks in slowest)
    return f"{min(clocks.values())} … {max(clocks.values())}, slowest {named}"


def _hot_keys(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[_Flow]:
    return [
        _Flow(
            [f"hot keys of {name}, by share of requests:"]
            + [f"{key['key']} {100 * key['share']:.0f}%" for key in keys[:_SHOWN_HOT_KEYS]]
        )
        for name, keys in tables.items()
        if keys
    ]


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    return table


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _mebibytes(number: float) -> str:
    mebibytes = number / 2**20
    return f"{mebibytes:,.1f}" if mebibytes < 10_000 else f"{mebibytes:,.0f}"


def _times(percentiles: Mapping[str, float | None]) -> str:
    if percentiles["p50"] is None or percentiles["p99"] is None:
        return "-"
    return f"{_three(percentiles['p50'])} / {_three(percentiles['p99'])}"


def _three(value: float) -> str:
    """Return a number with about three digits: a screen is no place for more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{_three(value / size)}{letter}"
    return f"{value:.0f}"
