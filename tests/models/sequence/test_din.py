"""DIN: the interest of a history by a plain loop in float64, and its configuration's errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from weiml.errors import ConfigError
from weiml.models import DIN, Columns, DINConfig
from weiml.models.checks import example_batch
from weiml.models.sequence import History
from weiml.models.sequence.din import LocalActivation

CONFIG = DINConfig(
    sequences=("history",),
    targets=("item",),
    attention_hidden=(5,),
    activation="relu",
    hidden=(8,),
    embedding_dim=3,
)


def random_history(count: int = 6, length: int = 4, width: int = 3) -> History:
    rng = np.random.default_rng(0)
    mask = np.arange(length) < rng.integers(0, length + 1, count)[:, None]
    mask[0] = False
    events = rng.standard_normal((count, length, width)) * mask[:, :, None]
    target = rng.standard_normal((count, width))
    return History(*(torch.tensor(x.astype(np.float32)) for x in (events, mask, target)))._replace(
        mask=torch.tensor(mask)
    )


@pytest.mark.parametrize("normalise", [False, True])
def test_weights_equal_a_loop_over_events(normalise: bool) -> None:
    torch.manual_seed(1)
    config = DINConfig(**{**vars(CONFIG), "normalise": normalise})
    unit = LocalActivation(3, config, torch.Generator())
    history = random_history()
    found = unit(history).detach().numpy()
    tensors = {n: p.detach().numpy().astype(float) for n, p in unit.named_parameters()}
    for b in range(len(found)):
        weights = []
        for j in np.flatnonzero(history.mask[b].numpy()):
            e, t = (x.numpy().astype(float) for x in (history.events[b, j], history.target[b]))
            x = np.array([*e, *t, *(e - t), *(e * t)])
            x = np.maximum(tensors["mlp.layers.0.weight"] @ x + tensors["mlp.layers.0.bias"], 0)
            weights += list(tensors["mlp.layers.2.weight"] @ x + tensors["mlp.layers.2.bias"])
        if normalise and weights:
            weights = list(np.exp(weights) / np.exp(weights).sum())
        expected = weights + [0.0] * (4 - len(weights))
        np.testing.assert_allclose(found[b], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"sequences": ()}, "sequences must name their slots"),
        ({"targets": ()}, "targets must name one slot for each"),
        ({"targets": ("",)}, "needs a slot to be compared with"),
        ({"targets": ("itme",)}, "'itme' is no slot of the candidate.*item"),
        ({"targets": ("history",)}, "'history' is no slot of the candidate"),
        ({"sequences": ("histroy",)}, "sequences: 'histroy' is no slot.*history"),
        ({"joined": True, "targets": ("",)}, "needs a slot to be compared with"),
    ],
)
def test_what_does_not_fit_is_named(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DIN(DINConfig(**{**vars(CONFIG), **knobs}), Columns.of(example_batch(4)))
