"""BST: one block by loops in float64, padding that nothing sees, places, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.sequence.test_din import random_history
from weiml.errors import ConfigError
from weiml.models import BST, BSTConfig, Columns
from weiml.models.checks import example_batch
from weiml.models.deep import NetworkShape
from weiml.models.sequence.bst import TransformerBlock, _Transformer

CONFIG = BSTConfig(
    sequences=("history",), targets=("item",), hidden=(8,), embedding_dim=4, max_length=5, heads=2
)


def normed(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5))


def test_a_block_equals_loops_over_heads_and_places() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(4, 2, 0.0, torch.Generator()).double()
    x = torch.randn(3, 5, 4).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    found = block(x, mask).detach().numpy()
    P = {name: p.detach().numpy() for name, p in block.named_parameters()}
    for b in range(3):
        given = x[b].numpy()
        q, k, v = np.split(given @ P["project.weight"].T + P["project.bias"], 3, axis=1)
        heads = np.zeros((5, 4))
        for h in range(2):
            own = slice(2 * h, 2 * h + 2)
            for i in range(5):
                seen = np.flatnonzero(mask[b].numpy())
                scores = np.exp([q[i, own] @ k[j, own] / np.sqrt(2) for j in seen])
                heads[i, own] = (scores / scores.sum()) @ v[seen, own]
        y = normed(given + heads @ P["merge.weight"].T + P["merge.bias"])
        inner = y @ P["feed_forward.0.weight"].T + P["feed_forward.0.bias"]
        inner = np.where(inner > 0, inner, 0.01 * inner)
        y = normed(y + inner @ P["feed_forward.2.weight"].T + P["feed_forward.2.bias"])
        np.testing.assert_allclose(found[b], y, atol=1e-10)


@pytest.mark.parametrize("readout", ["all", "target"])
def test_padding_says_nothing_and_order_something(readout: str) -> None:
    torch.manual_seed(0)
    columns = Columns.of(example_batch(4))
    shape = NetworkShape(
        slots=columns.slots,
        row_dim=4,
        dense_names=columns.dense_names,
        sequences=("history",),
        max_length=5,
        generator=torch.Generator(),
    )
    config = replace(CONFIG, readout=readout, init_scale=1.0)  # type: ignore[arg-type]
    transformer = _Transformer(4, config, shape)
    history = random_history(width=4)
    found = transformer(history)
    assert found.shape == (6, transformer.num_outputs)
    assert transformer.num_outputs == (24 if readout == "all" else 4)
    filled = history.events + 9.0 * ~history.mask.unsqueeze(2)
    torch.testing.assert_close(transformer(history._replace(events=filled)), found)
    turned = transformer(history._replace(events=history.events.flip(1), mask=history.mask.flip(1)))
    longer = history.mask.sum(1) > 1
    assert ((turned - found).abs().sum(1) > 1e-3).tolist() == longer.tolist()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="heads must be at least 1, got 0"):
        replace(CONFIG, heads=0)
    with pytest.raises(ConfigError, match=r"heads must divide an event's 4 numbers.*got 3"):
        BST(replace(CONFIG, heads=3), Columns.of(example_batch(4)))
