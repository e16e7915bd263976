"""weiml: a machine-learning platform for ranking feeds, ads and recommendations, on Ray."""

from __future__ import annotations
