"""One shard: what it holds, the order of requests, how it is followed, saved and moved.

Read `shard.shard` for the requests and `shard.content` for what they act on.
"""

from __future__ import annotations

__all__: list[str] = []
