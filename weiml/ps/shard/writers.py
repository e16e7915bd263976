"""The clients that a shard has heard of: each one's last write, and who speaks for which worker.

It knows no requests; the shard says when a write has acted.
"""

from __future__ import annotations

__all__ = ["MAX_CLIENTS", "Writers"]

MAX_CLIENTS = 1 << 14
"""Observers come and go; those silent longest are forgotten."""


class Writers:
    """Clients in the order of their last writes; what has changed is remembered for stand-bys."""

    def __init__(self) -> None:
        self.applied: dict[str, int] = {}
        """Client: its last write."""
        self.owners: dict[int, str] = {}
        """Worker: the client that speaks for it."""
        self._news: set[str] = set()

    def last(self, client: str) -> int:
        """Return the number of a client's last write; 0 for one that is not known."""
        return self.applied.get(client, 0)

    def count(self, client: str) -> list[str]:
        """Count another write of a client; return those that are forgotten for it."""
        self.applied[client] = self.applied.pop(client, 0) + 1
        self._news.add(client)
        return self.forget_oldest()

    def go_on(self, client: str, seq: int) -> int:
        """Take a client's writes up to `seq` as done; return how many had not been."""
        lost = max(0, seq - self.last(client))
        if lost:
            self.applied[client] = seq
            self._news.add(client)
        return lost

    def forget_oldest(self) -> list[str]:
        """Forget observers until there are no more than `MAX_CLIENTS`, and return them."""
        forgotten = []
        while len(self.applied) > MAX_CLIENTS:
            oldest = next(c for c in self.applied if c not in self.owners.values())
            del self.applied[oldest]
            self._news.discard(oldest)
            forgotten.append(oldest)
        return forgotten

    # What stand-bys are told

    def news(self) -> dict[str, int]:
        """Return the last writes of those that wrote since `forget_news`."""
        return {client: self.applied[client] for client in self._news if client in self.applied}

    def forget_news(self) -> None:
        """Take it that every stand-by has been told everything."""
        self._news = set()

    def take(self, clients: dict[str, int], owners: dict[int, str]) -> list[str]:
        """As a stand-by: take over news and all owners; return the clients that are forgotten."""
        for client, seq in clients.items():
            self.applied.pop(client, None)
            self.applied[client] = seq
        forgotten = self.forget_oldest()
        self.owners = dict(owners)
        return forgotten
