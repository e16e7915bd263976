"""The pictures of docs/sync-async.md, drawn from what `benchmarks.sync_async` measured.

python -m benchmarks.sync_async_plots REPORT.json FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

__all__ = ["draw"]

_COLOURS = ("#1f4e79", "#2e86c1", "#27ae60", "#c0392b", "#e59866")


def draw(report: Path, folder: Path) -> None:
    """Draw all pictures of a report into a folder."""
    import matplotlib as mpl

    mpl.use("Agg")
    found = json.loads(report.read_text(encoding="utf-8"))
    schemes = list(dict.fromkeys(one["scheme"] for one in found["runs"]))
    colours = dict(zip(schemes, _COLOURS, strict=False))
    _loss(found["runs"], colours, folder / "sync-async-loss.png")
    _log(found["slowed"], folder / "sync-async-log.png")
    _pace(found, colours, folder / "sync-async-pace.png")
    _equivalence(found["equivalence"], folder / "sync-async-equivalence.png")


def _axes(columns: int, width: float = 10, height: float = 4) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    for one in np.atleast_1d(axes):
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=110)
    plt.close(figure)


def _loss(runs: list[dict[str, Any]], colours: dict[str, str], path: Path) -> None:
    figure, axes = _axes(2)
    for one in runs:
        alone = one["workers"] == 1
        if one["workers"] not in (1, 4) or (alone and one["scheme"].startswith("ASP")):
            continue
        style: dict[str, Any] = {"color": "black", "ls": "--", "label": "1 worker"}
        if not alone:
            style = {"color": colours[one["scheme"]], "label": f"4 workers, {one['scheme']}"}
        axes[0].plot(np.array(one["examples"]) / 1e3, one["loss"], lw=1.6, **style)
        axes[1].plot(one["seconds"], one["loss"], lw=1.6, **style)
    axes[0].set_xlabel("thousand examples, of all workers")
    axes[1].set_xlabel("seconds since the first step")
    axes[0].set_ylabel("log-loss of examples not yet trained on")
    axes[1].legend(frameon=False, fontsize=8)
    _save(figure, path)


def _log(slowed: list[dict[str, Any]], path: Path) -> None:
    first = list({one["scheme"]: one for one in reversed(slowed)}.values())[::-1]
    figure, axes = _axes(len(first), 11)
    for axis, one in zip(np.atleast_1d(axes), first, strict=True):
        total = one["global_steps"]
        for rank, numbers in enumerate(one["log"]):
            ahead = np.arange(1, len(numbers) + 1) - np.array(numbers) / len(one["log"])
            axis.plot(numbers, ahead, lw=1.4, label=f"worker {rank}", drawstyle="steps-post")
        clean = "each once" if not one["faults"] else "; ".join(one["faults"])
        axis.set_title(f"{one['scheme']}\nglobal steps 1 … {total}: {clean}", fontsize=9)
        axis.set_xlabel("global step that a worker got")
    limit = max(abs(y) for axis in axes for y in axis.get_ylim())
    for axis in axes:
        axis.set_ylim(-limit, limit)
    axes[0].set_ylabel("local steps ahead of an even share")
    axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    _save(figure, path)


def _pace(found: dict[str, Any], colours: dict[str, str], path: Path) -> None:
    figure, axes = _axes(2)
    counts = sorted({one["workers"] for one in found["runs"]})
    for place, (scheme, colour) in enumerate(colours.items()):
        rates = {o["workers"]: o["steps_per_s"] for o in found["runs"] if o["scheme"] == scheme}
        at = [counts.index(n) + (place - 2) * 0.16 for n in rates]
        axes[0].bar(at, list(rates.values()), 0.15, color=colour, label=scheme)
    axes[0].set_xticks(range(len(counts)), [f"{n} worker{'s' * (n > 1)}" for n in counts])
    axes[0].set_ylabel("steps/s of all workers")
    axes[0].set_title("nobody slowed, two cores for all", fontsize=9)
    axes[0].set_ylim(0, axes[0].get_ylim()[1] * 1.5)
    axes[0].legend(frameon=False, fontsize=7, loc="upper left", ncols=2)
    names = list(dict.fromkeys(sorted(one["scheme"] for one in found["slowed"])))
    names.sort(key=list(colours).index)
    for place, name in enumerate(names):
        rates_ = [one["steps_per_s"] for one in found["slowed"] if one["scheme"] == name]
        axes[1].bar(place, median(rates_), 0.6, color=colours[name])
        axes[1].plot([place] * len(rates_), rates_, "k.", ms=5)
    axes[1].set_xticks(range(len(names)), [n.replace(", ", ",\n") for n in names], fontsize=8)
    axes[1].set_title("4 workers, at each step one of them slow (median, dots: rounds)", fontsize=9)
    axes[1].set_ylabel("steps/s of all workers")
    _save(figure, path)


def _equivalence(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = _axes(1, 8)
    names = list(dict.fromkeys(_variant(row) for row in rows))
    for place, workers in enumerate((2, 4)):
        heights = [
            max(row["difference"], 1e-8)
            for name in names
            for row in rows
            if _variant(row) == name and row["workers"] == workers
        ]
        at = np.arange(len(names)) + (place - 0.5) * 0.36
        axes.bar(at, heights, 0.34, color=_COLOURS[place], label=f"{workers} workers")
    axes.axhline(1e-5, color="black", lw=0.8, ls="--")
    axes.text(len(names) - 0.5, 1.15e-5, "1e-5", ha="right", va="bottom", fontsize=8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel("largest difference of a score from\none worker's with the N-fold batch")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _save(figure, path)


def _variant(row: dict[str, Any]) -> str:
    extra = {"servers": "\ndense on\nservers"}.get(row["dense"], "")
    extra += {"ranges": "\nsplit\n“ranges”"}.get(row["split"], "")
    return str(row["rule"]) + extra


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
