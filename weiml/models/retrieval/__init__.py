"""Models that find candidates: vectors of users and of items. Importing this loads torch."""

from __future__ import annotations

from weiml.models.retrieval.frequency import FrequencyEstimator
from weiml.models.retrieval.two_tower import TwoTower, TwoTowerConfig

__all__ = ["FrequencyEstimator", "TwoTower", "TwoTowerConfig"]
