"""A log of impressions and clicks with all that goes wrong in one, and what must come of it.

Run as a program it is a stream over such a log, to be killed: see test_crashes.py.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weiml.data.streams import (
    Count,
    EventSource,
    GrowingFiles,
    JsonDecoder,
    KafkaSource,
    LabelJoin,
    LabelJoinConfig,
    Operator,
    PartFiles,
    Quarantine,
    QuarantineConfig,
    StreamConfig,
    StreamRun,
    WindowConfig,
    Windows,
    bad_events,
)

LATENESS = 300
WAIT = 200
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
    ]
)
COUNTS = (Count("shown", ("event", "impression")), Count("clicks", ("event", "click")))


def make_log(n: int, seed: int, of: int = 1, part: int = 0) -> list[bytes]:
    """Return lines: out of order by up to 400 ms, some sent twice, some of them damaged.

    Of several logs none has an id, or a time, that another has: results then do not depend on the
    order in which they are read.
    """
    rng = np.random.default_rng(seed)
    lines: list[bytes] = []
    for i in range(n):
        time = 10_000 + i * 5 - int(rng.integers(0, 400))
        time += part - time % of
        event = "click" if rng.random() < 0.3 else "impression"
        item = f"item {int(rng.zipf(1.5)) % 20}"
        lines.append(
            json.dumps({"id": i * of + part, "time": time, "item": item, "event": event}).encode()
        )
        if rng.random() < 0.05:
            lines.append(lines[-1 - int(rng.integers(0, min(len(lines), 10)))])
        if rng.random() < 0.01:
            lines.append(lines[-1][: int(rng.integers(1, 20))])
    return lines


def expected(partitions: Iterable[list[bytes]]) -> dict[str, Any]:
    """Return what comes of logs, by going through them event by event."""
    events: list[dict[str, Any]] = []
    late, bad = Counter[int](), 0
    for lines in partitions:
        newest, known = -(10**9), set[int]()
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                bad += 1
                continue
            if event["time"] < newest - LATENESS:
                late[event["id"]] += 1
                continue
            newest = max(newest, event["time"])
            if event["id"] not in known:
                known.add(event["id"])
                events.append(event)
    return {
        "bad": bad,
        "late": late,
        "tumbling": _windows(events, 500, 500),
        "hopping": _windows(events, 1000, 250),
        "features": _features(events),
        "labelled": _labels(events),
    }


def outcome(folder: Path) -> dict[str, Any]:
    """Return what a stream gave, in the same form; it must have given nothing twice."""
    tables = {
        name: [row for file in sorted((folder / "out" / name).glob("*")) for row in _rows(file)]
        for name in ("late", "tumbling", "hopping", "features", "labelled")
    }
    windows = {}
    for name, suffix in (("tumbling", "500ms"), ("hopping", "1s")):
        sequences = [row["sequence"] for row in tables[name]]
        assert sequences == list(range(len(sequences)))
        windows[name] = [
            (row["item"], row["window_end"], row[f"shown_{suffix}"], row[f"clicks_{suffix}"])
            for row in tables[name]
        ]
    features = [(row["id"], row["shown_1s"], row["clicks_1s"]) for row in tables["features"]]
    labels = [(row["id"], row["label"], row["delay_ms"]) for row in tables["labelled"]]
    return {
        "bad": sum(1 for _ in bad_events(folder / "bad")),
        "late": Counter(row["id"] for row in tables["late"]),
        "tumbling": sorted(windows["tumbling"]),
        "hopping": sorted(windows["hopping"]),
        "features": sorted(features),
        "labelled": sorted(labels),
    }


def stream(source: EventSource, folder: Path, **settings: Any) -> StreamRun:
    """Return a stream that gives all that `expected` gives."""
    windows = {
        "tumbling": {"sizes": ("500ms",)},
        "hopping": {"sizes": ("1s",), "every": "250ms"},
        "features": {"sizes": ("1s",), "every": "50ms", "give": "features"},
    }
    operators: list[Operator] = [
        Windows(WindowConfig(name=name, keys=("item",), measures=COUNTS, **options))  # type: ignore[arg-type]
        for name, options in windows.items()
    ]
    operators.append(
        LabelJoin(LabelJoinConfig(keys=("item",), wait=f"{WAIT}ms", source="features"))
    )
    limits = QuarantineConfig(max_share=0.1)
    options = {"batch_events": 97, "poll_s": 0.02, "checkpoint_every": "30ms", **settings}
    return StreamRun(
        source,
        JsonDecoder(schema=SCHEMA),
        StreamConfig(
            time="time", lateness=f"{LATENESS}ms", idle="1h", max_ahead=None, id="id", **options
        ),
        checkpoint_dir=folder / "checkpoints",
        operators=operators,
        sink=PartFiles(folder / "out"),
        quarantine=Quarantine(folder / "bad", limits),
    )


def main(kind: str, place: str, folder: Path) -> None:
    """Run until a file ``over`` is there and nothing waits."""
    source: EventSource
    if kind == "files":
        source = GrowingFiles(place, sequence=True, discover_every_s=0.05)
    else:
        address, topic = place.split("|")
        source = KafkaSource(address, [topic])
    run = stream(source, folder)

    def is_over(status: dict[str, Any]) -> bool:
        (folder / "alive").touch()
        if (folder / "over").exists() and run.caught_up:
            run.stop(finish=True)
        return False

    run.run(until=is_over)


def _rows(file: Path) -> list[dict[str, Any]]:
    return pq.read_table(file).to_pylist()  # type: ignore[no-any-return]


def _windows(events: list[dict[str, Any]], size: int, every: int) -> list[tuple[Any, ...]]:
    counts: dict[tuple[str, int], list[int]] = {}
    for event in events:
        first = event["time"] // every * every + every
        for end in range(first, first + size, every):
            row = counts.setdefault((event["item"], end), [0, 0])
            row[event["event"] == "click"] += 1
    return sorted((*place, *row) for place, row in counts.items())


def _features(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    rows = []
    for event in events:
        stop = event["time"] // 50 * 50
        counts = [0, 0]
        for other in events:
            if other["item"] == event["item"] and stop - 1000 <= other["time"] < stop:
                counts[other["event"] == "click"] += 1
        rows.append((event["id"], *counts))
    return sorted(rows)


def _labels(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    delays: dict[int, int] = {}
    for click in events:
        before = [
            (event["time"], i)
            for i, event in enumerate(events)
            if event["event"] == "impression"
            and event["item"] == click["item"]
            and event["time"] <= click["time"]
        ]
        if click["event"] == "click" and before and click["time"] - max(before)[0] <= WAIT:
            shown = events[max(before)[1]]
            delay = click["time"] - shown["time"]
            delays[shown["id"]] = min(delay, delays.get(shown["id"], delay))
    return sorted(
        (event["id"], int(event["id"] in delays), delays.get(event["id"]))
        for event in events
        if event["event"] == "impression"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
