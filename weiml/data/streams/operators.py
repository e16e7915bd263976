"""What an operator is: a part of a stream that remembers, moved on by the watermark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["EVENTS", "LATE", "Operator"]

EVENTS = "events"
"""The stream of decoded events, after the operations."""
LATE = "late"
"""The stream of events that came too late to count, as they were decoded."""


class Operator(ABC):
    """Takes events of one stream, keeps state, gives rows of another. Not thread-safe.

    What it gives may depend on the events and their order within each partition, not on how they
    were cut into batches: only then is a run that died and went on equal to one that did not.
    """

    name: str
    """Its own, in a run; the stream that it gives has this name too."""
    source: str = EVENTS
    """The stream that it reads: `EVENTS`, or the name of an operator before it."""

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """What it was set to do, as plain JSON; state of another setting is refused."""

    @property
    def delay_ms(self) -> int:
        """How far below the watermark the times of rows may lie that it still gives."""
        return 0

    @abstractmethod
    def add(self, events: pa.Table, times: np.ndarray) -> None:
        """Take in events, none of which lies below the watermark.

        Args:
            events: n of them.
            times: int64 ``(n,)``, ms.

        Raises:
            DataError: a column is missing or of a type that does not serve.
        """

    @abstractmethod
    def advance(self, watermark: int) -> pa.Table | None:
        """Hear that all events before `watermark` have come; return rows that are now settled."""

    @abstractmethod
    def state(self) -> dict[str, pa.Table]:
        """Return all that it remembers, as tables by name; they do not change afterwards."""

    @abstractmethod
    def restore(self, tables: Mapping[str, pa.Table]) -> None:
        """Go on from `state`."""

    def status(self) -> dict[str, Any]:
        """Return numbers for people: the size of the state and what was dropped."""
        return {}
