"""What a checkpoint says of a shard, put in force: its content, and clock, clients and held pushes.

Files are read in `weiml.ps.shard.parts`; who is restored, and when, is not known here.
"""

from __future__ import annotations

from typing import Any

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.chain import Chain
from weiml.ps.shard.content import ShardContent
from weiml.ps.shard.parts import control_of, held_of, read_content
from weiml.ps.shard.state import RESTORED, ShardState

__all__ = ["check_no_tick_under_way", "control", "put_in_force", "restore"]


def check_no_tick_under_way(shard: ShardState) -> None:
    """Raise `ParameterServerError` while pushes of a tick are held, which content would miss."""
    if shard.held:
        raise ParameterServerError(
            f"{shard.where}: a tick is under way (pushes of ticks {shard.held.ticks} are "
            f"held), so nothing can be loaded now; let all workers tick or finish first"
        )


def put_in_force(shard: ShardState, content: ShardContent) -> None:
    """Replace all tables and vectors by those of `content`; every row counts as changed."""
    shard.sequence += 1
    shard.take_over(content)
    for table in shard.tables.values():
        table.changes.reset(shard.sequence)
    for vector in shard.vectors.values():
        vector.touched = shard.sequence


def restore(shard: ShardState, chain: Chain) -> None:
    """Make of a new process's shard what a checkpoint says, clock and clients too."""
    check_no_tick_under_way(shard)
    content = read_content(shard, chain)
    # Far beyond what the lost process may have counted: cuts of then bring everything.
    shard.sequence = max(chain.newest.sequences, default=0) + RESTORED
    put_in_force(shard, content)
    saved = control_of(chain, shard.index, shard.partition)
    if saved is not None:
        _set_control(shard, saved)
        for tick, worker, push in held_of(chain, shard.index):
            shard.held.add(tick, worker, push)


def control(shard: ShardState) -> dict[str, Any]:
    """Return clock and clients as plain data, to be kept beside the rows."""
    return {
        "clients": dict(shard.writers.applied),
        "ticks": list(shard.clock.ticks),
        "live": list(shard.clock.live),
        "count": shard.clock.count,
        "partition": shard.partition.to_mapping(),
    }


def _set_control(shard: ShardState, saved: dict[str, Any]) -> None:
    shard.writers.applied = {str(c): int(n) for c, n in saved["clients"].items()}
    shard.clock.ticks = [int(t) for t in saved["ticks"]]
    shard.clock.live = [bool(live) for live in saved["live"]]
    shard.clock.count = int(saved.get("count", sum(shard.clock.ticks)))  # older ones lack it
