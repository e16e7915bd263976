"""FinalMLP: gates and the bilinear form equal loops over heads, with and without context."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import Columns, FinalMLP, FinalMLPConfig

HEADS = 2
SHAPE: dict[str, Any] = {"hidden": [6, 4], "second_hidden": [6], "num_heads": HEADS}


def gate(drawn: Any, at: int, places: list[int]) -> np.ndarray:
    if places:
        context = np.concatenate([drawn.embeddings[:, s] for s in places], 1)
    else:
        context = drawn[f"gates.{at}.context"]
    return np.asarray(2 / (1 + np.exp(-drawn.mlp(f"gates.{at}.mlp", context))) * drawn.flat)


def logits(drawn: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    o, p = drawn.mlp("streams.0", x), drawn.mlp("streams.1", y)
    w, total = drawn["fusion.linear.weight"][0], drawn["fusion.linear.bias"] + np.zeros(len(x))
    total += np.concatenate([o, p], 1) @ w
    for h in range(HEADS):
        W = drawn["fusion.weight"][h]
        left, right = o[:, 2 * h : 2 * h + 2], p[:, 3 * h : 3 * h + 3]
        for m in range(2):
            for n in range(3):
                total += left[:, m] * W[m, n] * right[:, n]
    return np.asarray(total)


@pytest.mark.parametrize("slots", [(), ("tags", "user")])
def test_it_equals_the_formula(draw: Any, slots: tuple[str, ...]) -> None:
    drawn = draw("final_mlp", gate_slots=slots, gate_hidden=[3], **SHAPE)
    places = [2, 0] if slots else []
    expected = logits(drawn, gate(drawn, 0, places), gate(drawn, 1, []))
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-9)


def test_without_gates_the_streams_get_the_same(draw: Any) -> None:
    drawn = draw("final_mlp", gated=False, **SHAPE)
    np.testing.assert_allclose(drawn.logits, logits(drawn, drawn.flat, drawn.flat), rtol=1e-9)
    assert not any(name.startswith("gates") for name in drawn.module.state_dict())


@pytest.mark.parametrize("knob", ["hidden", "second_hidden"])
@pytest.mark.parametrize("sizes", [(16, 12), ()])
def test_sizes_that_heads_do_not_divide_are_named(knob: str, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"^{knob} must end with a multiple of num_heads = 8"):
        FinalMLPConfig(**{knob: sizes})  # type: ignore[arg-type]


def test_gates_of_unknown_slots_are_named() -> None:
    columns = Columns(slots=("user", "item"), dense_names=())
    with pytest.raises(ConfigError, match="second_gate_slots: 'itm' is no slot.*'item'"):
        FinalMLP(FinalMLPConfig(second_gate_slots=("itm",)), columns)
