"""The stages of a run's steps as a trace: what ran when, on which worker, in which thread.

The file is in the format of Chrome's tracing, which Perfetto (ui.perfetto.dev) shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weiml.files import written_aside
from weiml.models import Span

__all__ = ["write_trace"]


def write_trace(path: str | Path, spans: Sequence[tuple[int, Span]]) -> None:
    """Write (rank, span)s as a JSON file, whole or not at all."""
    start = min((span.begin_s for _, span in spans), default=0.0)
    threads: dict[tuple[int, str], int] = {}
    events: list[dict[str, Any]] = []
    for rank, span in spans:
        thread = threads.setdefault((rank, span.thread), len(threads))
        events.append(
            {
                "name": span.stage,
                "ph": "X",
                "pid": rank,
                "tid": thread,
                "ts": (span.begin_s - start) * 1e6,
                "dur": span.seconds * 1e6,
            }
        )
    for (rank, name), thread in threads.items():
        about = {"name": "thread_name", "ph": "M", "pid": rank, "tid": thread}
        events.append({**about, "args": {"name": name}})
    for rank in sorted({rank for rank, _ in threads}):
        about = {"name": "process_name", "ph": "M", "pid": rank}
        events.append({**about, "args": {"name": f"worker {rank}"}})
    with written_aside(Path(path)) as aside:
        aside.write_text(json.dumps({"traceEvents": events}), encoding="utf-8")
