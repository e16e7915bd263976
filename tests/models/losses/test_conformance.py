"""What every loss promises: values and gradients of torch, missing labels, tasks, float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.losses.conftest import CASES, LOSSES, Inputs, inputs
from weiml.errors import DataError
from weiml.models.losses import FNW, Hinge, Loss

every = pytest.mark.parametrize("loss", LOSSES, ids=repr)


@pytest.mark.parametrize("labels", ["classes", "between"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_autograd(
    case: str, labels: str, batch: Inputs, rng: np.random.Generator
) -> None:
    loss, reference = CASES[case]
    if labels == "between":
        batch = batch._replace(labels=rng.integers(0, 5, len(batch.labels)) / 4)
    x = torch.tensor(batch.logits, requires_grad=True)
    values = reference(x, torch.tensor(batch.labels), torch.tensor(batch.weights), batch.groups)
    values.sum().backward()  # type: ignore[no-untyped-call]
    found = loss(*batch)
    np.testing.assert_allclose(found.values, values.detach().numpy(), atol=1e-12)
    assert x.grad is not None
    np.testing.assert_allclose(found.gradients, x.grad.numpy(), atol=1e-12)
    assert found.total == pytest.approx(float(values.detach().sum()), rel=1e-12)


@every
def test_gradients_are_differences_of_sums(loss: Loss, batch: Inputs) -> None:
    if isinstance(loss, FNW):
        pytest.skip("its weights count as constants; autograd above holds them still")
    found = loss(*batch)
    step = 1e-6
    for i in range(len(batch.logits)):
        if isinstance(loss, Hinge) and abs(abs(batch.logits[i]) - loss.margin) < 2 * step:
            continue
        sides = []
        for sign in (1, -1):
            moved = batch.logits.copy()
            moved[i] += sign * step
            sides.append(loss(moved, *batch[1:]).total)
        slope = (sides[0] - sides[1]) / (2 * step)
        assert found.gradients[i] == pytest.approx(slope, abs=1e-7)


@every
def test_missing_labels_and_weight_zero_are_as_if_absent(
    loss: Loss, batch: Inputs, rng: np.random.Generator
) -> None:
    gone = rng.random(len(batch.logits)) < 0.3
    labels, weights = batch.labels.copy(), batch.weights.copy()
    labels[gone & (batch.logits > 0)] = np.nan
    weights[gone & (batch.logits <= 0)] = 0
    found = loss(batch.logits, labels, weights, batch.groups)
    assert not found.values[gone].any()
    assert not found.gradients[gone].any()
    if loss.name == "bpr":
        return  # it draws by places in the batch, which others' absence moves
    alone = loss(*Inputs(*(column[~gone] for column in batch)))
    np.testing.assert_allclose(found.values[~gone], alone.values, rtol=1e-12)
    np.testing.assert_allclose(found.gradients[~gone], alone.gradients, rtol=1e-9, atol=1e-15)
    assert found.weight == pytest.approx(alone.weight)


@every
def test_tasks_are_columns(loss: Loss, rng: np.random.Generator) -> None:
    parts = [inputs(rng) for _ in range(2)]
    groups, weights = parts[0].groups, parts[0].weights
    logits, labels = (
        np.stack([part[field] for part in parts], axis=1).astype(np.float32) for field in (0, 1)
    )
    labels[3, 1] = np.nan
    both = loss(logits, labels, weights, groups)
    assert both.values.shape == both.gradients.shape == (40, 2)
    single = [loss(logits[:, t], labels[:, t], weights, groups) for t in range(2)]
    for t in range(2):
        np.testing.assert_array_equal(both.values[:, t], single[t].values)
        np.testing.assert_array_equal(both.gradients[:, t], single[t].gradients)
    assert both.total == pytest.approx(single[0].total + single[1].total, rel=1e-12)
    assert both.weight == pytest.approx(single[0].weight + single[1].weight, rel=1e-6)
    own = np.stack([weights, 2 * weights], axis=1)
    twice = loss(logits, labels, own, groups)
    np.testing.assert_allclose(twice.values[:, 1], 2 * both.values[:, 1], rtol=1e-6)


@every
def test_float32_in_gives_float32_and_a_sum_in_float64(loss: Loss, batch: Inputs) -> None:
    x, y, w = (column.astype(np.float32) for column in batch[:3])
    narrow = loss(x, y, w, batch.groups)
    wide = loss(*batch)
    assert narrow.values.dtype == narrow.gradients.dtype == np.float32
    assert wide.values.dtype == np.float64
    np.testing.assert_allclose(narrow.values, wide.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(narrow.gradients, wide.gradients, rtol=1e-5, atol=1e-6)
    column = loss(batch.logits, batch.labels[:, None], batch.weights, batch.groups)
    np.testing.assert_array_equal(column.values, wide.values)
    unweighted = loss(batch.logits, batch.labels, None, batch.groups)
    ones = loss(batch.logits, batch.labels, np.ones(40), batch.groups)
    assert unweighted.total == ones.total


@every
def test_large_logits_overflow_nothing(loss: Loss) -> None:
    logits = np.array([-800.0, -800.0, 800.0, 800.0], np.float32)
    found = loss(logits, np.array([0.0, 1.0, 0.0, 1.0]), None, np.ones(4, int))
    assert np.isfinite(found.values).all()
    assert np.isfinite(found.gradients).all()
    p = loss.probabilities(logits)
    assert p.dtype == np.float32
    assert p.tolist() == [0.0, 0.0, 1.0, 1.0]


@every
def test_no_examples(loss: Loss) -> None:
    none = np.empty(0, np.float32)
    found = loss(none, none, none, none)
    assert found.values.shape == (0,)
    assert (found.total, found.weight) == (0.0, 0.0)


@every
def test_bad_input_is_refused(loss: Loss) -> None:
    two = np.array([0.0, 1.0])
    for arguments, message in (
        ((two, two[:1], None, two), r"labels must fit logits \(2,\), got \(1,\)"),
        ((two, two, two[:1], two), "weights must be"),
        ((two, two, -two, two), "weights must be finite, 0 or more"),
        ((two, two * 2, None, two), r"labels must lie in \[0, 1\]"),
        ((two[:, None, None], two, None, two), "logits must be"),
    ):
        with pytest.raises(DataError, match=message):
            loss(*arguments)
    if loss.grouped:
        with pytest.raises(DataError, match="no groups were given"):
            loss(two, two)
        with pytest.raises(DataError, match="groups must be as long as logits"):
            loss(two, two, None, two[:1])


@every
def test_a_network_takes_the_gradient_with_respect_to_its_logits(loss: Loss, batch: Inputs) -> None:
    layer = torch.nn.Linear(1, 1)
    logits = layer(torch.tensor(batch.logits, dtype=torch.float32)[:, None])
    found = loss(logits.detach().numpy(), batch.labels, batch.weights, batch.groups)
    logits.backward(torch.from_numpy(found.gradients))
    assert layer.bias.grad is not None
    assert float(layer.bias.grad) == pytest.approx(found.gradients.sum(), abs=1e-4)
