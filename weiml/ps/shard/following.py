"""How a stand-by becomes and stays its shard: what the shard tells, and what is made of it.

A copy is whole buckets and then one update; whoever has followed gets what is news. It works on
states of shards: it knows no processes, and sends nothing.
"""

from __future__ import annotations

from dataclasses import replace

from weiml.ps.partition import Partition
from weiml.ps.shard.state import ShardState
from weiml.ps.shard.transfer import ShardRows, ShardUpdate

__all__ = [
    "CopyStart",
    "apply_update",
    "begin_copy",
    "collect_update",
    "copy_start",
    "forget_news",
    "take_rows",
]

CopyStart = tuple[Partition, int, int]
"""Where a shard is when a copy of it begins: its partition, sequence number, rescales given up."""


# On the shard


def copy_start(shard: ShardState) -> CopyStart:
    """Return where the shard is, for `begin_copy` of a stand-by before it takes rows."""
    return shard.partition, shard.sequence, shard.rescale.given_up


def collect_update(
    shard: ShardState, since: int, epoch: int, *, copied: bool = False
) -> ShardUpdate:
    """Return what happened since the last update, taken at sequence number `since`.

    For a new stand-by, to which all was `copied` that was there at `since`, also all clients and
    held pushes; otherwise only those that are news, and they are news no longer.
    """
    content = shard.export_changes(since)
    rescale = shard.rescale.state(whole=copied)
    if copied:
        clients, held = dict(shard.writers.applied), shard.held.all()
        dropped = shard.held.at
    else:
        clients = shard.writers.news()
        held, dropped = shard.held.news()
        forget_news(shard)
    return ShardUpdate(
        epoch=epoch,
        sequence=shard.sequence,
        content=replace(content, held=tuple(held)),
        partition=shard.partition,
        clients=clients,
        owners=dict(shard.writers.owners),
        ticks=tuple(shard.clock.ticks),
        live=tuple(shard.clock.live),
        count=shard.clock.count,
        held_left=shard.held.at,
        held_anew=dropped,
        rescale=rescale,
        counts=dict(shard.counts),
        expired=dict(shard.expired),
        copied_at=since if copied else None,
    )


def forget_news(shard: ShardState) -> None:
    """Take it that every stand-by has been told everything."""
    shard.writers.forget_news()
    shard.held.forget_news()
    shard.rescale.forget_news()


# On the stand-by


def begin_copy(standby: ShardState, start: CopyStart) -> None:
    """Let an empty stand-by count all that is copied as of the sequence number of its start."""
    partition, sequence, standby.rescale.given_up = start
    if partition.version != standby.partition.version:
        standby.set_partition(partition)
    standby.sequence = sequence - 1  # taking rows over counts one


def take_rows(standby: ShardState, rows: ShardRows) -> None:
    """Let a stand-by that is copied to take over rows."""
    standby.drop_others(rows)
    standby.import_rows(rows)
    standby.born = dict(rows.born)
    standby.sequence -= 1


def apply_update(standby: ShardState, update: ShardUpdate) -> None:
    """Make of a stand-by what the sending shard was: values are set, so twice is harmless."""
    if update.copied_at is not None:  # what is older came without its sequence number
        for table in standby.tables.values():
            table.changes.reset(update.copied_at)
    if update.rescale.given_up != standby.rescale.given_up:
        standby.forget_arrivals()
    if update.partition.version != standby.partition.version:
        standby.set_partition(update.partition)
    standby.held.begin_anew(update.held_anew)
    standby.drop_others(update.content)
    standby.sequence = update.sequence - 1  # taking rows over counts one
    standby.import_rows(update.content)
    standby.born = dict(update.content.born)
    standby.held.keep_at(update.held_left)
    standby.forget_key_lists(standby.writers.take(update.clients, update.owners))
    standby.clock.ticks = list(update.ticks)
    standby.clock.live = list(update.live)
    standby.clock.count = update.count
    standby.counts = dict(update.counts)
    standby.expired = dict(update.expired)
    standby.rescale.take(update.rescale)
    standby.sequence = update.sequence
    forget_news(standby)
