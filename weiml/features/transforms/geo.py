"""Places to cells of the map: square tiles of the Web Mercator projection, at any level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import ConfigError
from weiml.features.transforms.columns import is_number, kind_of, numbers, require
from weiml.features.transforms.derived import Derived, FittedDerived, Stateless
from weiml.features.transforms.registry import register

__all__ = ["GeoCell", "parent_cell"]

_EDGE = 85.05112877980659
"""Latitude at which the square map ends: atan(sinh(π)) in degrees."""


def parent_cell(cells: np.ndarray, levels: int = 1) -> np.ndarray:
    """Return the cells `levels` coarser that contain cells: int64."""
    return np.asarray(cells, np.int64) >> (2 * levels)


@dataclass(frozen=True, eq=False)
class FittedGeoCell(FittedDerived):
    """Cells of the map."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the cells, null where a place is missing or out of range."""
        assert isinstance(self.of, GeoCell)
        lat, lon = (numbers(table, name) for name in self.of.inputs)
        cells = _cells(lat, lon, self.of.level)
        return (pa.array(cells, mask=cells == 0),)


@register("geo_cell")
@dataclass(frozen=True)
class GeoCell(Stateless, Derived):
    """Puts in the map tile of a latitude and a longitude in degrees, as int64.

    At level z the map has 2^z × 2^z tiles, as in web maps; at level 14 one is 2.4 km wide at the
    equator. The number is 1 and then, in bits, the tile's path from the whole map down, two bits a
    level (south, east). So cells of different levels differ, and shifting by two bits gives the
    cell around. Latitudes beyond ±85.05°, where the map ends, fall into its last row; a latitude
    beyond ±90° or a longitude beyond ±180° gives null.
    """

    lat: str
    lon: str
    level: int = field(default=12, kw_only=True)
    output: str = field(default="geo_cell", kw_only=True)

    fitted_type = FittedGeoCell

    def __post_init__(self) -> None:
        if not 1 <= self.level <= 30:
            raise ConfigError(f"GeoCell: level must be 1 to 30, got {self.level}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Latitude and longitude."""
        return self.lat, self.lon

    @property
    def outputs(self) -> tuple[str, ...]:
        """The cell."""
        return (self.output,)

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of int64."""
        for name in self.inputs:
            kind = kind_of(schema, name)
            require(is_number(kind), name, self.name, "degrees", kind)
        return (pa.field(self.output, pa.int64()),)


@numba.njit(nogil=True, cache=True)
def _cells(lat: np.ndarray, lon: np.ndarray, level: int) -> np.ndarray:
    """Return cells int64 ``(n,)``, 0 where there is none."""
    out = np.zeros(lat.size, np.int64)
    tiles = 1 << level
    for i in range(lat.size):
        if not (abs(lat[i]) <= 90.0 and abs(lon[i]) <= 180.0):  # also if missing
            continue
        sine = math.sin(math.radians(min(max(lat[i], -_EDGE), _EDGE)))
        down = 0.5 - math.log((1.0 + sine) / (1.0 - sine)) / (4.0 * math.pi)
        x = min(int((lon[i] + 180.0) / 360.0 * tiles), tiles - 1)
        y = min(max(int(down * tiles), 0), tiles - 1)
        if lon[i] == 180.0:  # the same meridian as −180
            x = 0
        cell = 1
        for bit in range(level - 1, -1, -1):
            cell = (cell << 2) | (((y >> bit) & 1) << 1) | ((x >> bit) & 1)
        out[i] = cell
    return out
