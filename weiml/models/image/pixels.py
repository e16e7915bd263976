"""From pixels in dense columns to what a network sees, moved and mirrored on the way in training.

One compiled pass: each number of the result is read, scaled and put in its place once.
"""

from __future__ import annotations

import numba
import numpy as np
import torch

from weiml.models.image.config import ImageConfig

__all__ = ["Moves", "draw_moves", "images_of"]

Moves = tuple[np.ndarray, np.ndarray]
"""How images are changed: int64 (B, 2) pixels down and to the right, bool (B,) whether mirrored."""


def draw_moves(config: ImageConfig, count: int, generator: torch.Generator | None) -> Moves:
    """Draw the changes of `count` images; none of them changes without a generator."""
    shifts, flips = np.zeros((count, 2), np.int64), np.zeros(count, bool)
    if generator is None:
        return shifts, flips
    if config.shift:
        span = 2 * config.shift + 1
        shifts = torch.randint(span, (count, 2), generator=generator).numpy() - config.shift
    if config.flip:
        flips = torch.randint(2, (count,), generator=generator).numpy().astype(bool)
    return shifts, flips


def images_of(dense: np.ndarray, config: ImageConfig, moves: Moves) -> np.ndarray:
    """Return float32 (B, H, W, C) of pixels float32 (B, H·W·C): (pixel / 255 - mean) / std."""
    shape = (config.channels,)
    std = np.broadcast_to(np.asarray(config.std, np.float32), shape)
    mean = np.broadcast_to(np.asarray(config.mean, np.float32), shape)
    out = np.empty((len(dense), config.height, config.width, config.channels), np.float32)
    _place(dense, *moves, 1 / (255 * std), -mean / std, out)
    return out


@numba.njit(cache=True, nogil=True)
def _place(
    dense: np.ndarray,
    shifts: np.ndarray,
    flips: np.ndarray,
    scale: np.ndarray,
    black: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write ``dense · scale + black``; a pixel from outside of the image is 0."""
    count, height, width, channels = out.shape
    for b in range(count):
        for y in range(height):
            source = y - shifts[b, 0]
            inside = 0 <= source < height
            for x in range(width):
                at = x - shifts[b, 1]
                seen = inside and 0 <= at < width
                if flips[b]:
                    at = width - 1 - at
                first = (source * width + at) * channels
                for c in range(channels):
                    pixel = dense[b, first + c] if seen else np.float32(0)
                    out[b, y, x, c] = pixel * scale[c] + black[c]
