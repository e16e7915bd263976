"""A group as Ray processes: shards, stand-bys and the coordinator that sees to them.

Its modules import Ray, which embedded servers do without; so nothing is offered from here.
"""

from __future__ import annotations

__all__: list[str] = []
