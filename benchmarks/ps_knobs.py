"""What each of WeiPS's four knobs does: number of servers, batch size, serialisation, share sent.

    python -m benchmarks.ps_knobs [--quick]

Logistic regression by FTRL on generated clicks through Ray: this process is the one worker, with
the next batch's rows on their way while it trains; each shard is a process. One knob is turned at a
time, from the setting that the others are compared with. docs/ps-tuning.md reads the numbers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import ray

from benchmarks.harness import Case, run
from benchmarks.zipf import STEEP, Clicks
from weiml.cluster import start_ray
from weiml.data import ParquetKeys, read_ahead
from weiml.models import Columns, Fetch, LogisticRegression, LogisticRegressionConfig
from weiml.ps import FTRL, RayParameterServer
from weiml.ps.wire import WireConfig

RULE = FTRL(alpha=0.1, beta=1.0, l1=0.0, l2=0.0)
WARM = 65_536
"""Examples before the clock starts: code is loaded and hot rows exist."""
KEYS: dict[str, Any] = {"keys": "packed", "key_cache_mib": 64.0, "omit_new": True}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the worker and its servers are set up."""

    shards: int = 1
    batch_size: int = 16_384
    wire: WireConfig = field(default_factory=WireConfig)


class Pass(NamedTuple):
    """What one pass came to."""

    rate: float
    """Examples/s after the first."""
    bytes_an_example: float
    loss: float
    """Progressive, of all examples."""


BASE = Setting()
KNOBS: dict[str, dict[str, Setting]] = {
    "servers": {"2 shards": Setting(shards=2)},
    "batch size": {
        f"batches of {size:,}": Setting(batch_size=size) for size in (1024, 4096, 65_536)
    },
    "serialisation": {
        "packed keys": Setting(wire=WireConfig(**KEYS)),
        "packed keys, bfloat16": Setting(wire=WireConfig(pull="bfloat16", push="bfloat16", **KEYS)),
        "packed keys, int8": Setting(wire=WireConfig(pull="int8", push="int8", **KEYS)),
    },
    "share sent": {
        f"the largest {share:.0%} of the rows": Setting(wire=WireConfig(push_fraction=share))
        for share in (0.5, 0.2, 0.05)
    },
}


def one_pass(source: ParquetKeys, setting: Setting) -> Pass:
    """Train from nothing on a group of its own."""
    columns = Columns(slots=source.slots, dense_names=source.dense_names)
    model = LogisticRegression(LogisticRegressionConfig(optimizer=RULE), columns)
    with RayParameterServer.create(setting.shards, 1, None, "ps-knobs") as server:
        for table in model.tables():
            server.create_table(table)
        client = server.client(0, wire=setting.wire)
        prepared = read_ahead(map(model.prepare, source.iter_batches(setting.batch_size)))
        fetch: Fetch | None = model.fetch(client, next(prepared))
        loss = weight = 0.0
        begin, seen_before, bytes_before = time.perf_counter(), 0, 0
        while fetch is not None:
            batch = next(prepared, None)
            ahead = None if batch is None else model.fetch(client, batch, ahead=1)
            step = model.step(client, fetch, missed_by=ahead)
            try:
                next(step)
            except StopIteration as stop:
                loss, weight = loss + stop.value.loss, weight + stop.value.weight
            client.tick()
            fetch = ahead
            if not seen_before and weight >= WARM:
                begin, seen_before = time.perf_counter(), int(weight)
                bytes_before = _nbytes(client)
        client.flush()
        seconds = time.perf_counter() - begin
        seen = int(weight) - seen_before
        return Pass(seen / seconds, (_nbytes(client) - bytes_before) / seen, loss / weight)


def _nbytes(client: Any) -> int:
    return int(client.counts["bytes_sent"] + client.counts["bytes_received"])


def cases(quick: bool) -> Iterator[Case]:
    """Turn each knob, the base in turns with its settings."""
    examples, rounds = (150_000, 1) if quick else (1_000_000, 3)
    start_ray(num_cpus=2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            clicks = Clicks.write(Path(folder), examples, STEEP)
            source = ParquetKeys(clicks.parquet)
            one_pass(source, replace(BASE, batch_size=8192))  # loads and compiles what is used
            for knob, settings in KNOBS.items():
                shown = dict(list(settings.items())[-1:]) if quick else settings
                yield from turn(knob, shown, clicks, rounds)
    finally:
        ray.shutdown()


def turn(knob: str, settings: dict[str, Setting], clicks: Clicks, rounds: int) -> Iterator[Case]:
    """Compare the settings of one knob with the base."""
    contestants = {"base": BASE, **settings}
    passes: dict[str, list[Pass]] = {name: [] for name in contestants}
    source = ParquetKeys(clicks.parquet)
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            passes[name].append(one_pass(source, contestants[name]))
    base = _median(passes.pop("base"))
    for name, these in passes.items():
        mine = _median(these)
        yield Case(
            case=f"{knob}: {name}",
            value=mine.rate,
            unit="examples/s",
            peer=f"1 shard, batches of {BASE.batch_size:,}, float32, all rows",
            peer_value=base.rate,
            goal="none: shows what the knob does",
            holds=True,
            quality=f"progressive log-loss {mine.loss:.5f}, peer {base.loss:.5f}; "
            f"{mine.bytes_an_example:.1f} bytes an example, peer {base.bytes_an_example:.1f}",
            regime=f"{clicks.examples:,} examples x 39 slots, {STEEP}, {clicks.keys:,} distinct "
            f"keys; one worker, ASP, next batch prefetched; after the first {WARM:,} examples",
            n=rounds,
        )


def _median(passes: list[Pass]) -> Pass:
    return Pass(*(median(values) for values in zip(*passes, strict=True)))


def main() -> None:
    """Run the benchmark."""
    run("ps_knobs", cases)


if __name__ == "__main__":
    main()
