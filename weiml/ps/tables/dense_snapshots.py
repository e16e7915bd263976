"""An atomic cut of a dense table, read out bucket by bucket while writes go on.

It knows blocks of words by bucket, not what the words mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import numpy as np

__all__ = ["DenseSnapshot"]

_CHUNK_ROWS = 1 << 16


class DenseSnapshot:
    """The rows of a dense table as they were when it was made. Close it, or read it to the end.

    A bucket's rows are copied only if they are written before they were read.
    """

    def __init__(
        self,
        blocks: Mapping[int, np.ndarray],
        keys_of: Callable[[int], np.ndarray],
        on_close: Callable[[DenseSnapshot], None],
    ) -> None:
        self._keys_of = keys_of
        self._on_close = on_close
        self._closed = False
        self._pending = {bucket: blocks[bucket] for bucket in sorted(blocks)}
        self._aside: set[int] = set()
        self.rows = sum(map(len, blocks.values()))
        """How many rows the snapshot holds altogether."""

    @property
    def nbytes(self) -> int:
        """Bytes of what was set aside."""
        return sum(self._pending[bucket].nbytes for bucket in self._aside)

    def before_write(self, bucket: int) -> None:
        """Set the rows of a bucket aside, unless they were read; the table calls it."""
        if bucket in self._pending and bucket not in self._aside:
            self._pending[bucket] = self._pending[bucket].copy()
            self._aside.add(bucket)

    def next_chunk(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the next keys uint64 (n,) and rows uint32 (n, payload_words), None at the end."""
        keys: list[np.ndarray] = []
        blocks: list[np.ndarray] = []
        rows = 0
        while self._pending and rows < _CHUNK_ROWS:
            bucket, block = next(iter(self._pending.items()))
            del self._pending[bucket]
            self._aside.discard(bucket)
            blocks.append(block)
            keys.append(self._keys_of(bucket))
            rows += len(block)
        if not rows:
            self.close()
            return None
        return np.concatenate(keys), np.concatenate(blocks)

    def close(self) -> None:
        """Give up what was set aside; writes cost nothing more. Chunks fetched stay valid."""
        self._pending = {}
        self._aside = set()
        if not self._closed:
            self._closed = True
            self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
