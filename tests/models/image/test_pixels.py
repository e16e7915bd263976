"""Pixels are scaled, moved and mirrored as a loop over them says."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from weiml.models.image.config import ImageConfig
from weiml.models.image.pixels import Moves, draw_moves, images_of

FORM = ImageConfig(height=4, width=3, channels=2, mean=(0.1, 0.2), std=(0.5, 0.25), shift=2)


def by_numpy(dense: np.ndarray, moves: Moves) -> np.ndarray:
    """Each image put into a black one of three times the size, and cut out beside its place."""
    out = []
    for pixels, (down, right), flip in zip(dense.reshape(-1, 4, 3, 2), *moves, strict=True):
        around = np.zeros((12, 9, 2))
        around[4:8, 3:6] = pixels[:, ::-1] if flip else pixels
        out.append(around[4 - down : 8 - down, 3 - right : 6 - right])
    return (np.stack(out) / 255 - [0.1, 0.2]) / [0.5, 0.25]


@given(
    seed=st.integers(0, 1000),
    moves=st.lists(
        st.tuples(st.integers(-3, 3), st.integers(-2, 2), st.booleans()), min_size=1, max_size=4
    ),
)
def test_images_are_those_that_numpy_cuts_out(
    seed: int, moves: list[tuple[int, int, bool]]
) -> None:
    dense = np.random.default_rng(seed).integers(0, 256, (len(moves), 24)).astype(np.float32)
    shifts = np.array([move[:2] for move in moves], np.int64)
    flips = np.array([move[2] for move in moves])
    found = images_of(dense, FORM, (shifts, flips))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_numpy(dense, (shifts, flips)), atol=1e-6)


def test_moves_come_from_the_generator_and_cover_their_range() -> None:
    config = ImageConfig(shift=2, flip=True)
    drawn = [draw_moves(config, 500, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
    assert not np.array_equal(drawn[0][0], drawn[2][0])
    assert np.unique(drawn[0][0]).tolist() == [-2, -1, 0, 1, 2]
    assert 200 < drawn[0][1].sum() < 300


def test_nothing_moves_outside_of_training_or_unless_asked_for() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    for config, source in ((ImageConfig(), generator), (ImageConfig(shift=2, flip=True), None)):
        shifts, flips = draw_moves(config, 20, source)
        assert not shifts.any()
        assert not flips.any()
    assert torch.equal(generator.get_state(), before)
