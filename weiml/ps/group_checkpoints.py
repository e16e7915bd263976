"""A group's checkpoints: what is asked of the shards, in which order, and what they add up to.

The same over both transports: shards are reached through a function that calls one method of all.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig
from weiml.ps.checkpoint.chain import Chain, open_checkpoint
from weiml.ps.checkpoint.manifest import Manifest
from weiml.ps.checkpoint.store import CheckpointStore
from weiml.ps.checkpoint.writer import CheckpointWriter

__all__ = ["Aside", "AskShards", "GroupCheckpoints", "at_once", "load_path", "save_path"]

AskShards = Callable[..., Awaitable[list[Any]]]
"""``await ask(method, *arguments)`` returns every shard's answer, in their order."""
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function that waits for storage, beside the event loop where there is one."""


async def at_once(work: Callable[[], Any]) -> Any:
    """Run `work` here and now."""
    return work()


class GroupCheckpoints:
    """The checkpoints of one group below its `checkpoint_root`."""

    def __init__(self, config: GroupConfig, aside: Aside = at_once) -> None:
        assert config.checkpoint_root is not None
        self._aside = aside
        self._config = config
        self.store = CheckpointStore(config.checkpoint_root)
        self.last: str | None = None
        """Id of the newest one that this group took."""
        self._sequences: tuple[int, ...] | None = None
        self._since_full = 0
        self._version: int | None = None

    async def take(self, ask: AskShards, *, full: bool, version: int) -> str:
        """Write the next one and return its path: a delta where that goes on from the last one.

        `version` is the partition's: after buckets have moved the next one is full.

        Raises:
            ParameterServerError: it cannot be written; what was there is as it was.
        """
        due = self._since_full + 1 >= self._config.full_checkpoint_every
        if not (full or due or self.last is None or version != self._version):
            manifest = await self._write(ask, self.last)
            if manifest is not None:
                self._since_full += 1
                return self._path(manifest)
        manifest = await self._write(ask, None)
        assert manifest is not None, "a shard had no full part"
        self._since_full, self._version = 0, version
        await self._aside(lambda: self.store.retain(self._config.keep_checkpoints))
        return self._path(manifest)

    async def _write(self, ask: AskShards, parent: str | None) -> Manifest | None:
        buckets = self._config.num_buckets
        now = time.time()
        writer = await self._aside(
            lambda: self.store.writer(num_buckets=buckets, time_s=now, parent=parent)
        )
        with writer:
            records = await ask("save", writer.spec)
            if any(record is None for record in records):
                return None  # a shard does not remember as far back as the parent
            manifest: Manifest = await self._aside(lambda: writer.commit(records))
        self.last, self._sequences = manifest.id, manifest.sequences
        return manifest

    def covers(self, sequences: list[int], version: int) -> bool:
        """Return whether shards that have come to `sequences` have nothing that is not saved."""
        return version == self._version and tuple(sequences) == self._sequences

    def _path(self, manifest: Manifest) -> str:
        return f"{str(self._config.checkpoint_root).rstrip('/')}/{manifest.id}"

    def newest(self) -> Chain | None:
        """Return the newest intact one, of this group or one before it; None: there is none."""
        if not self.store.folder.folders():
            return None
        chain, _ = self.store.open_latest(verify=True)
        return chain


async def save_path(path: str, num_buckets: int, ask: AskShards, aside: Aside = at_once) -> None:
    """Write a full checkpoint at exactly this path or URL."""
    now = time.time()
    with await aside(lambda: CheckpointWriter(path, num_buckets=num_buckets, time_s=now)) as writer:
        records = await ask("save", writer.spec)
        await aside(lambda: writer.commit(records))


async def load_path(path: str, ask: AskShards, aside: Aside = at_once) -> None:
    """Replace the content of all shards by the checkpoint at a path or URL.

    In two steps, so that a shard that cannot read its part leaves the others as they were.
    """
    try:
        chain = await aside(lambda: open_checkpoint(path))
        await ask("load", chain)
    except ParameterServerError:
        await ask("unstage")
        raise
    await ask("commit", chain)
