"""Sources whose examples come in the order of their rows: files that are read from end to end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

from weiml.data.batches.rebatch import rebatch
from weiml.data.batches.source import read_ahead
from weiml.errors import ConfigError
from weiml.features import Batch

__all__ = ["InOrder", "ahead_of"]

T = TypeVar("T")


class InOrder(ABC):
    """The part of a `BatchSource` that such sources share."""

    paths: tuple[Any, ...]
    """The files, in their order."""

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"

    def iter_batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        worker: int = 0,
        num_workers: int = 1,
    ) -> Iterator[Batch]:
        """Yield batches of `batch_size` examples, in order; the last one may be smaller.

        Workers split the rows into `num_workers` consecutive ranges of equal length; up to
        ``num_workers - 1`` rows at the end go to nobody. `epoch` changes nothing.

        Raises:
            ConfigError: an argument is out of range, or there is a seed: rows stay in their order.
            DataError: a file is damaged, or a column does not fit; the message names both, and for
                text the line.
        """
        if seed is not None:
            raise ConfigError(
                f"examples of {self} come in the order of their rows: copy them with "
                "weiml.data.write_batches to have them shuffled, and leave out the seed"
            )
        if batch_size < 1 or not 0 <= worker < num_workers:
            raise ConfigError(
                f"batch_size must be at least 1 and worker from 0 to num_workers - 1, got "
                f"batch_size = {batch_size}, worker = {worker}, num_workers = {num_workers}"
            )
        return rebatch(self._pieces_of(worker, num_workers), batch_size, drop_last=False)

    @abstractmethod
    def _pieces_of(self, worker: int, num_workers: int) -> Iterator[Batch]:
        """Yield a worker's examples in pieces of any size."""


def ahead_of(blocks: Iterator[T], threads: int) -> Iterator[T]:
    """Yield blocks, read by a thread of their own where there are several to use them.

    A generator, so that no thread is started before somebody takes from it.
    """
    yield from blocks if threads == 1 else read_ahead(blocks)
