"""ESMM: products of rates in log-odds, exact at both ends, with gradients; labels that chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.models import ESMMConfig
from weiml.models.checks import example_batch, trained
from weiml.models.multitask.esmm import chained_logits

LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=4)


@given(LOGITS)
def test_they_are_the_log_odds_of_products(rates: list[float]) -> None:
    found = chained_logits(torch.tensor([rates]))[0].double().numpy()
    log_p: Any = np.longdouble(0)
    log_q: Any = np.longdouble(-np.inf)
    for rate, logit in zip(np.array(rates, np.float32).astype(np.longdouble), found, strict=True):
        ln_rate, ln_other = -np.logaddexp(0, -rate), -np.logaddexp(0, rate)
        log_q = np.logaddexp(log_q, log_p + ln_other)
        log_p += ln_rate
        assert logit == pytest.approx(float(log_p - log_q), rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("at", [-80.0, -20.0, 0.0, 20.0, 80.0])
def test_they_are_finite_and_so_are_gradients(at: float) -> None:
    rates = torch.tensor([[at, -at], [at, at]], requires_grad=True)
    found = chained_logits(rates)
    torch.autograd.backward(found.sum())
    assert found.isfinite().all()
    assert rates.grad is not None
    assert rates.grad.isfinite().all()
    p = torch.sigmoid(found)
    assert (p[:, 1] <= p[:, 0]).all()


def test_gradients_equal_finite_differences() -> None:
    rates = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(chained_logits, (rates,))


def test_labels_that_break_the_chain_are_named() -> None:
    batch = example_batch(30)
    labels = batch.labels.copy()
    labels[7] = (0.0, 1.0)
    made = trained(ESMMConfig(tower=(4,)), [])
    with pytest.raises(DataError, match=r"implies the one before, but example 7.*\[0.0, 1.0\]"):
        made.step(replace(batch, labels=labels))
    labels[7] = (np.nan, 1.0)  # nothing is known of the click
    assert np.isfinite(made.step(replace(batch, labels=labels)).loss)
