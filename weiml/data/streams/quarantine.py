"""Bad events set aside: each with its reason and where it stood, as JSON lines by day.

A run that meets too many of them stops, since then the schema is wrong rather than the events.
What was set aside can be read again as a source, once the decoder is mended: see
`QuarantinedEvents`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.data.streams.base import RawEvents
from weiml.data.streams.durable import claim, writing
from weiml.errors import ConfigError, DataError

__all__ = ["BadEvent", "Quarantine", "QuarantineConfig", "bad_events"]


@dataclass(frozen=True, kw_only=True)
class QuarantineConfig:
    """How many bad events a run puts up with."""

    max_share: float = 0.01
    """Of all events since the run began, once `min_events` have come."""
    max_events: int = 100_000
    """In all."""
    min_events: int = 1000
    """Below so many events the share says nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ConfigError(f"max_share must lie in 0 … 1, got {self.max_share}")
        if self.max_events < 0 or self.min_events < 1:
            raise ConfigError(
                f"max_events must be at least 0 and min_events at least 1, "
                f"got {self.max_events} and {self.min_events}"
            )


@dataclass(frozen=True, kw_only=True)
class BadEvent:
    """An event that was set aside."""

    reason: str
    partition: str
    offset: int
    time: int
    """When it came, ms since 1970."""
    key: bytes | None
    value: bytes


class Quarantine:
    """Takes bad events and writes them with each checkpoint. Not thread-safe.

    Files are ``DAY/part-NUMBER.jsonl``, the day (UTC) on which they were written and the number of
    the checkpoint: a run that goes on after a crash writes the same part again, and does not add to
    it. The folder is one run's, as that of `PartFiles`.

    Args:
        folder: is made if it is not there; None counts only.
        config: the limits.
    """

    def __init__(
        self, folder: str | Path | None = None, config: QuarantineConfig | None = None
    ) -> None:
        self.config = config or QuarantineConfig()
        self.count = 0
        """Bad events in all, those before a restart included."""
        self.seen = 0
        self._folder = None if folder is None else Path(folder)
        self._waiting: list[BadEvent] = []

    def see(self, events: int) -> None:
        """Count events, good and bad."""
        self.seen += events

    def add(self, raw: RawEvents, rows: Sequence[int], reasons: Sequence[str]) -> None:
        """Set aside the events `rows` of `raw`, each for its reason."""
        self.count += len(rows)
        if self._folder is None:
            return
        for row, reason in zip(rows, reasons, strict=True):
            self._waiting.append(
                BadEvent(
                    reason=reason,
                    partition=raw.partitions[raw.partition[row]],
                    offset=int(raw.offsets[row]),
                    time=int(raw.times[row]),
                    key=raw.key(row),
                    value=raw.value(row),
                )
            )

    def check(self) -> None:
        """Raise if there are too many bad events.

        Raises:
            DataError: the share or the number of bad events is above its limit; it names the last
                reason and the folder.
        """
        share = self.count / self.seen if self.seen else 0.0
        too_many = self.count > self.config.max_events
        if not too_many and (self.seen < self.config.min_events or share <= self.config.max_share):
            return
        limit = (
            f"max_events = {self.config.max_events}"
            if too_many
            else f"max_share = {self.config.max_share:g}"
        )
        last = f"; the last one: {self._waiting[-1].reason}" if self._waiting else ""
        raise DataError(
            f"{self.count} of {self.seen} events ({share:.2%}) cannot be used, more than {limit} "
            f"allows{last}. See {self._folder or 'no folder: none was given'}; mend the "
            f"schema or the sender, or raise the limit"
        )

    def begin(self, number: int, run: str) -> None:
        """Delete parts later than checkpoint `number`, from which the run goes on.

        Args:
            number: of the checkpoint, 0 before the first.
            run: see `Sink.begin`.

        Raises:
            ConfigError: the folder holds parts of another run, or of checkpoints that are gone.
        """
        if self._folder is None:
            return
        files = list(self._folder.glob("*/*part-*"))
        matches = [re.fullmatch(r"(\.?)part-(\d{8})\.jsonl", path.name) for path in files]
        newest = max((int(match[2]) for match in matches if match and not match[1]), default=0)
        # A run that ended before its first checkpoint has written one part.
        claim(self._folder, run, newest, 1 if number == 0 else newest)
        for path, match in zip(files, matches, strict=True):
            if match and (match[1] or int(match[2]) > number):
                path.unlink()

    def write(self, number: int) -> None:
        """Write what came since the last checkpoint as part `number`, aside and then renamed.

        Raises:
            DataError: it cannot be written.
        """
        if self._folder is None or not self._waiting:
            return
        folder = self._folder / time.strftime("%Y-%m-%d", time.gmtime())
        place = folder / f"part-{number:08d}.jsonl"
        try:
            with writing(place) as aside, aside.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(_as_json(event)) + "\n" for event in self._waiting)
        except OSError as error:
            raise DataError(f"{place} could not be written: {error}") from None
        self._waiting.clear()

    def state(self) -> dict[str, int]:
        """Return the counts for a checkpoint."""
        return {"count": self.count, "seen": self.seen}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from the counts of a checkpoint."""
        self.count, self.seen = state["count"], state["seen"]
        self._waiting.clear()


def bad_events(folder: str | Path) -> Iterator[BadEvent]:
    """Yield what was set aside in a folder, in the order of days and parts.

    Raises:
        DataError: a line of a file is not as `Quarantine` writes them.
    """
    for file in sorted(Path(folder).glob("*/part-*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _from_json(json.loads(line))
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(f"{file}:{number} is not a bad event: {error}") from None


def _as_json(event: BadEvent) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "reason": event.reason,
        "partition": event.partition,
        "offset": event.offset,
        "time": event.time,
    }
    for name, raw in (("key", event.key), ("value", event.value)):
        if raw is None:
            continue
        try:
            tree[name] = raw.decode()
        except UnicodeDecodeError:
            tree[f"{name}_base64"] = base64.b64encode(raw).decode()
    return tree


def _from_json(tree: dict[str, Any]) -> BadEvent:
    return BadEvent(
        reason=tree["reason"],
        partition=tree["partition"],
        offset=int(tree["offset"]),
        time=int(tree["time"]),
        key=_bytes_of(tree, "key"),
        value=_bytes_of(tree, "value") or b"",
    )


def _bytes_of(tree: dict[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in tree:
        return base64.b64decode(tree[f"{name}_base64"])
    return tree[name].encode() if name in tree else None
