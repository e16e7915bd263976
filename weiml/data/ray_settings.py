"""Ray Data's settings for jobs of ours: order kept, few partitions, no bars between our lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ray_data_settings"]

_MIB = 1024**2
# Actors may hold all CPUs for a while; we switch the bars off ourselves; what a task raises is told
# by whoever waits for it.
_EXPECTED = (
    *("does not have any available CPUs", "Progress bars disabled"),
    *("An exception was raised from a task", "Exception occurred in user code"),
)


@contextmanager
def ray_data_settings(num_blocks: int, *, bars: bool = False) -> Iterator[None]:
    """Set Ray Data's context for a while; what it logs below a warning goes to its log file only.

    Args:
        num_blocks: how many blocks or partitions where nobody says; Ray's own default of 200 is
            for clusters.
        bars: show Ray Data's progress bars.
    """
    from ray.data import DataContext

    changed = DataContext.get_current().copy()
    changed.enable_progress_bars = bars
    changed.print_on_execution_start = False
    changed.default_hash_shuffle_parallelism = num_blocks
    changed.read_op_min_num_blocks = num_blocks
    changed.shuffle_input_batch_bytes = 64 * _MIB
    changed.execution_options.preserve_order = True  # the same input gives the same files
    console = [h for h in logging.getLogger("ray.data").handlers if h.get_name() == "console"]
    with DataContext.current(changed):
        for handler in console:
            handler.addFilter(_is_news)
        try:
            yield
        finally:
            for handler in console:
                handler.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    expected = any(text in record.getMessage() for text in _EXPECTED)
    return record.levelno >= logging.WARNING and not expected
