"""FNC: the share of positives in a stream of late clicks, turned into the share of clicks."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.models.losses import FNC


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.4, 1.0])
def test_what_the_stream_teaches_is_read_as_the_true_probability(rate: float) -> None:
    loss, share = FNC(), rate / (1 + rate)
    logit = np.log(share / (1 - share))
    found = loss(np.full(2, logit), np.array([0.0, 1.0]), np.array([1.0, rate]))
    assert found.gradients.sum() == pytest.approx(0, abs=1e-12)
    assert loss.probabilities(np.array([logit]))[0] == pytest.approx(rate, rel=1e-6)


def test_probabilities_end_at_one_and_keep_the_order() -> None:
    p = FNC().probabilities(np.array([[-50.0, -1.0], [0.0, 3.0]]))
    assert p.shape == (2, 2)
    assert p[0, 0] < p[0, 1] < p[1, 0] == p[1, 1] == 1
