"""Extents of raw memory that come and go by the thousand, given back to the system page by page.

It knows no rows: an extent is an address and a size. New extents are always cut from memory never
used before, so they are zero; a huge page goes back as soon as no extent lies on it any more.
"""

from __future__ import annotations

import numpy as np

from weiml.ps.rows.memory import HUGE_PAGE, Region

__all__ = ["Arena"]

_ALIGN = 64
_SMALLEST = 1 << 16


class _Zone:
    """One region, what of it is handed out, and how many extents lie on each of its huge pages."""

    def __init__(self, nbytes: int) -> None:
        self.region = Region(nbytes)
        self.used = 0
        self.extents = 0
        self._extents_on = np.zeros(-(-nbytes // HUGE_PAGE), np.int64)

    def count(self, starts: np.ndarray, stops: np.ndarray, sign: int) -> None:
        """Add (1) or take away (-1) the extents from byte `starts` to byte `stops` of the zone."""
        self.extents += sign * starts.size
        pages = self._extents_on.size
        first, after = starts // HUGE_PAGE, -(-stops // HUGE_PAGE)
        change = np.bincount(first, minlength=pages + 1) - np.bincount(after, minlength=pages + 1)
        on_page = np.cumsum(change[:-1])
        self._extents_on += sign * on_page
        if sign < 0 and self.extents:
            self._release(np.flatnonzero((on_page > 0) & (self._extents_on == 0)))

    def _release(self, pages: np.ndarray) -> None:
        for run in np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1):
            if run.size:
                self.region.release(int(run[0]) * HUGE_PAGE, (int(run[-1]) + 1) * HUGE_PAGE)


class Arena:
    """Hands out zeroed extents, 64-byte aligned, and takes them back.

    Memory that holds no extent costs no more than one huge page beside each live extent, and
    nothing where extents that were allocated together die together.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        """Of the live extents."""
        self._zones: list[_Zone] = []
        self._addresses = np.empty(0, np.int64)

    def allocate(self, sizes: np.ndarray) -> np.ndarray:
        """Return the addresses int64 (n,) of new extents of `sizes` bytes int64 (n,), zeroed."""
        padded = -(-sizes // _ALIGN) * _ALIGN
        total = int(padded.sum())
        zone = self._zones[-1] if self._zones else None
        if zone is None or zone.used + total > zone.region.nbytes:
            zone = self._open(total)
        starts = zone.used + np.cumsum(padded) - padded
        zone.count(starts, starts + padded, 1)
        zone.used += total
        self.nbytes += total
        return starts + zone.region.address

    def free(self, addresses: np.ndarray, sizes: np.ndarray) -> None:
        """Take back extents; `sizes` int64 (n,) as they were asked for."""
        padded = -(-sizes // _ALIGN) * _ALIGN
        self.nbytes -= int(padded.sum())
        place = np.searchsorted(self._addresses, addresses, "right") - 1
        zones = sorted(self._zones, key=lambda zone: zone.region.address)
        for z in np.unique(place):
            mine = place == z
            starts = addresses[mine] - zones[z].region.address
            zones[z].count(starts, starts + padded[mine], -1)
        self._keep([zone for zone in self._zones if zone.extents])

    def _open(self, needed: int) -> _Zone:
        # A quarter of what lives: a zone is soon full, and soon dead when the store has grown.
        size = max(_SMALLEST, self.nbytes // 4, needed)
        if size >= HUGE_PAGE:
            size = -(-size // HUGE_PAGE) * HUGE_PAGE
        zone = _Zone(size)
        self._keep([*self._zones, zone])
        return zone

    def _keep(self, zones: list[_Zone]) -> None:
        if len(zones) != len(self._zones):
            self._zones = zones
            self._addresses = np.sort([zone.region.address for zone in zones]).astype(np.int64)
