"""How much of a step is hidden behind its longest part: Wide & Deep through Ray, from traces.

    python -m benchmarks.overlap [--quick] [--examples 163840]

Each worker's stages are traced (`Trainer.fit(trace=)`): waiting for rows, computing, pushing,
waiting for the mean of the gradients, ticking. If what travels is hidden, a step takes as long as
its longest stage. Under BSP rows may not be asked for before the tick, so that a pull shows; with a
staleness of one they are on their way while the batch before is computed.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from benchmarks.deep_data import make_examples
from benchmarks.deep_peers import BATCH, DIM, HIDDEN
from benchmarks.harness import Case, run
from weiml.cluster import start_ray
from weiml.data import BatchDataset
from weiml.models import WideDeepConfig
from weiml.train import TrainConfig, Trainer

GOAL = 1.15
SETTINGS: dict[str, dict[str, Any]] = {
    "SSP(1), 1 shard, 1 worker": {"staleness": 1},
    "BSP, 1 shard, 1 worker": {"staleness": 0},
    "BSP, 1 shard, 2 workers, gloo": {"staleness": 0, "num_workers": 2},
    "SSP(1), 1 shard, 2 workers, gloo": {"staleness": 1, "num_workers": 2},
}


def measure(data: BatchDataset, settings: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """Return seconds of a step, and of each of its stages, in the second epoch."""
    model = WideDeepConfig(embedding_dim=DIM, hidden=HIDDEN)
    config = TrainConfig(
        model=model,
        batch_size=BATCH,
        epochs=2,
        transport="ray",
        threads=1,
        cpus_per_worker=0,
        progress_steps=1000,
        **settings,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = Trainer(config).fit(data, trace=f"{folder}/trace.json")
        events = json.loads((Path(folder) / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X" and event["pid"] == 0]
    half = max(event["ts"] + event["dur"] for event in spans) / 2
    second = [event for event in spans if event["ts"] > half]
    ticks = sorted(event["ts"] for event in second if event["name"] == "push")
    per_step = 1 + (config.model_config.name == "wide_deep")  # the fetch ahead is a push span too
    steps = len(ticks) // per_step
    stages: dict[str, float] = defaultdict(float)
    for event in second:
        if event["name"] != "prepare":  # of a thread that reads ahead
            stages[event["name"]] += event["dur"] / 1e6 / steps
    entry = result.history[1]
    seconds = entry["seconds"] / (result.steps / len(result.history))
    return seconds, dict(stages)


def cases(quick: bool, examples: int) -> Iterator[Case]:
    """Trace each setting."""
    count = min(examples, 10 * BATCH) if quick else examples
    start_ray(num_cpus=2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = make_examples(count).write(Path(folder) / "train")
            for case, settings in SETTINGS.items():
                seconds, stages = measure(data, settings)
                name, longest = max(stages.items(), key=lambda item: item[1])
                shown = ", ".join(f"{s} {1000 * t:.1f} ms" for s, t in sorted(stages.items()))
                yield Case(
                    case=f"Wide & Deep, {case}",
                    value=1 / seconds,
                    unit="steps/s",
                    peer=f"the longest stage alone, {name}",
                    peer_value=1 / longest,
                    goal=f"a step takes ≤ {GOAL:g} × its longest stage",
                    holds=seconds <= GOAL * longest,
                    quality=f"a step {1000 * seconds:.1f} ms; {shown}",
                    regime=f"through Ray on two cores, torch on one thread, batches of {BATCH}, "
                    f"{count:,} examples, the second epoch",
                    n=1,
                )
    finally:
        ray.shutdown()


def main() -> None:
    """Run the benchmark."""
    run("overlap", cases, examples=40 * BATCH)


if __name__ == "__main__":
    main()
