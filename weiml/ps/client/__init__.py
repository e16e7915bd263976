"""The client: what a worker asks of the shards, past losses and moves."""

from __future__ import annotations

from weiml.ps.client.sharded import ShardedClient

__all__ = ["ShardedClient"]
