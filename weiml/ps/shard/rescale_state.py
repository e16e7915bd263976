"""Where a shard is in a rescale: the barrier, what waits there, the freeze, shards that are gone.

What has to happen in which order is said in `weiml.ps.rescale`; rows are moved elsewhere.
"""

from __future__ import annotations

from weiml.ps.shard.transfer import RescaleState, Stamp

__all__ = ["ShardRescale"]

_MAX_RETIRED = 8  # rescales of which it is remembered what shards that went had done


class ShardRescale:
    """The state of one shard in the rescale under way, if one is."""

    def __init__(self) -> None:
        self.frozen = False
        """Whether no request may act."""
        self.barrier: int | None = None
        """The tick beyond which no worker may tick."""
        self.arrived: dict[int, tuple[str, int, str]] = {}
        """Worker: (client, seq, verb) of what waits at the barrier."""
        self.given_up = 0
        """Rescales, so that a stand-by forgets what came for them too."""
        self._passes: set[tuple[str, int]] = set()
        self._retired: dict[tuple[int, int], dict[str, int]] = {}
        self._news_retired = False

    # The barrier

    def set_barrier(self, tick: int | None) -> None:
        """Let no worker tick beyond `tick`; None: let all tick on."""
        self.barrier = tick
        self.arrived = {}

    def arrive(self, worker: int, stamp: Stamp, verb: str) -> None:
        """Note what waits at the barrier."""
        self.arrived[worker] = (stamp.client, stamp.seq, verb)

    def passes(self, stamp: Stamp) -> bool:
        """Whether a request waited at the barrier and was let through."""
        return (stamp.client, stamp.seq) in self._passes

    def has_passed(self, stamp: Stamp) -> None:
        """Let a request through no second time."""
        self._passes.discard((stamp.client, stamp.seq))

    # The end

    def go_over(self) -> None:
        """Go on with the new partition, first of all with what waits at the barrier."""
        self._passes = {(client, seq) for client, seq, _ in self.arrived.values()}
        self.frozen = False
        self.set_barrier(None)

    def give_up(self) -> None:
        """Go on with the old partition."""
        self.given_up += 1
        self.frozen = False
        self.set_barrier(None)

    # Shards that are gone

    def retire(self, shard: int, version: int, clients: dict[str, int]) -> None:
        """Remember the clients' last writes on a shard that goes at a version of the partition."""
        self._retired[shard, version] = clients
        self._news_retired = True
        while len({version for _, version in self._retired}) > _MAX_RETIRED:
            oldest = min(version for _, version in self._retired)
            self._retired = {at: kept for at, kept in self._retired.items() if at[1] != oldest}

    def last_write(self, shard: int, version: int, client: str) -> int:
        """Return a client's last write on a shard of partition `version` that is no more."""
        later = [v for s, v in self._retired if s == shard and v > version]
        return self._retired[shard, min(later)].get(client, 0) if later else 0

    # What stand-bys are told

    def state(self, *, whole: bool) -> RescaleState:
        """Return all of it; of shards that are gone only with `whole`, or if that is news."""
        return RescaleState(
            frozen=self.frozen,
            barrier=self.barrier,
            arrived=dict(self.arrived),
            passes=frozenset(self._passes),
            given_up=self.given_up,
            retired=dict(self._retired) if whole or self._news_retired else None,
        )

    def take(self, state: RescaleState) -> None:
        """As a stand-by: be where the shard is."""
        self.frozen, self.barrier, self.given_up = state.frozen, state.barrier, state.given_up
        self.arrived, self._passes = dict(state.arrived), set(state.passes)
        if state.retired is not None:
            self._retired = dict(state.retired)

    def forget_news(self) -> None:
        """Take it that every stand-by has been told everything."""
        self._news_retired = False
