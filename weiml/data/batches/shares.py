"""Which examples of an order each worker takes: consecutive ranges, or a part of every step.

"ranges": worker w of W takes the w-th of W equal ranges of the order, so that each reads as few
files as can be. "steps": the order is cut into pieces of W · batch_size, and of each piece worker w
takes the w-th batch. Then the W batches of a step are together the one batch that a lone worker
would take with W times the batch size, and what is learned from sums over examples is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from weiml.errors import ConfigError

__all__ = ["Share", "Split", "check_split"]

Split = Literal["ranges", "steps"]


def check_split(split: str) -> None:
    """Raise ConfigError unless there is such a split."""
    if split not in ("ranges", "steps"):
        raise ConfigError(f"split must be 'ranges' or 'steps', got {split!r}")


class Share(NamedTuple):
    """What one worker takes of `num_examples` in a row: ``num_examples // num_workers`` of them.

    What is left over, up to ``num_workers - 1`` examples at the end, goes to nobody.
    """

    num_examples: int
    worker: int
    num_workers: int
    batch_size: int
    split: Split = "ranges"

    def within(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the worker's ranges [start, stop) among the places [first, last), in order."""
        for start, stop in self._ranges(first):
            if start >= last:
                return
            if stop > first and stop > start:
                yield max(start, first), min(stop, last)

    def _ranges(self, first: int) -> Iterator[tuple[int, int]]:
        """Yield ranges from one on that begins at or before place `first`."""
        own = self.num_examples // self.num_workers
        if self.split == "ranges":
            yield self.worker * own, (self.worker + 1) * own
            return
        size, step = self.batch_size, self.batch_size * self.num_workers
        whole = self.num_examples // step * step
        for at in range(first // step * step, whole, step):
            yield at + self.worker * size, at + (self.worker + 1) * size
        rest = (self.num_examples - whole) // self.num_workers
        yield whole + self.worker * rest, whole + (self.worker + 1) * rest
