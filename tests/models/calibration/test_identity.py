"""No calibration."""

from __future__ import annotations

import numpy as np

from weiml.models.calibration import Identity


def test_probabilities_stay(rng: np.random.Generator) -> None:
    scores = rng.random(100, dtype=np.float32)
    none = np.empty(0)
    np.testing.assert_array_equal(Identity().fit(none, none)(scores), scores)
