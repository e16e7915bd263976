"""Map tiles: known ones, nesting, the ends of the map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.features.transforms import GeoCell, parent_cell


def cells(lat: Any, lon: Any, level: int) -> list[int | None]:
    table = pa.table({"lat": pa.array(lat, pa.float64()), "lon": pa.array(lon, pa.float64())})
    made: list[int | None] = (
        GeoCell("lat", "lon", level=level).fit(table).apply(table).column("geo_cell").to_pylist()
    )
    return made


def tile(cell: int, level: int) -> tuple[int, int]:
    """Return a tile's column and row, as web maps count them, from a cell's number."""
    digits = bin(cell)[3:]
    assert len(digits) == 2 * level
    return int(digits[1::2], 2), int(digits[0::2], 2)


@pytest.mark.parametrize(
    ("lat", "lon", "level", "expected"),
    [
        (40.1222, 20.6852, 9, (285, 193)),
        (48.8584, 2.2945, 14, (8296, 5636)),
        (0.0, 0.0, 1, (1, 1)),
        (85.0, -180.0, 3, (0, 0)),
        (-85.0, 179.999, 3, (7, 7)),
    ],
)
def test_known_tiles(lat: float, lon: float, level: int, expected: tuple[int, int]) -> None:
    (cell,) = cells([lat], [lon], level)
    assert cell is not None
    assert tile(cell, level) == expected


@given(st.floats(-85, 85), st.floats(-180, 179.99), st.integers(1, 30))
def test_a_cell_is_the_projections_formula(lat: float, lon: float, level: int) -> None:
    (cell,) = cells([lat], [lon], level)
    assert cell is not None
    x, y = tile(cell, level)
    across = (lon + 180) / 360 * 2**level
    down = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**level
    assert x <= across + 1e-6 <= x + 1 + 2e-6
    assert y - 1e-5 <= down <= y + 1 + 1e-5


def test_coarser_cells_contain_finer_ones(rng: np.random.Generator) -> None:
    lat, lon = rng.uniform(-90, 90, 500), rng.uniform(-180, 180, 500)
    fine = np.array(cells(lat, lon, 20))
    for level in (1, 7, 19):
        assert parent_cell(fine, 20 - level).tolist() == cells(lat, lon, level)


def test_the_ends_of_the_map() -> None:
    assert cells([90.0, 86.0], [10.0, 10.0], 5)[0] == cells([86.0], [10.0], 5)[0]
    assert cells([0.0, 0.0], [-180.0, 180.0], 8)[0] == cells([0.0], [180.0], 8)[0]
    assert cells([90.1, 0.0, None, 0.0], [0.0, -180.1, 0.0, float("nan")], 5) == [None] * 4


def test_wrong_levels_are_told() -> None:
    with pytest.raises(ConfigError, match="level"):
        GeoCell("lat", "lon", level=31)
