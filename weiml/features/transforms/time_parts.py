"""Times to the parts of the calendar that behaviour follows: hours, weekdays, months."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import ConfigError
from weiml.features.numbers import seconds_of
from weiml.features.transforms.columns import column, require
from weiml.features.transforms.derived import FittedDerived, OneColumn, Stateless
from weiml.features.transforms.registry import register

__all__ = ["Part", "TimeParts"]

Part = Literal[
    "hour",
    "weekday",
    "day",
    "month",
    "hour_of_week",
    "is_weekend",
    "hour_cycle",
    "weekday_cycle",
    "month_cycle",
    "hour_of_week_cycle",
]

_LONGEST = 253_402_300_799 - 86_400  # a day before the end of the year 9999, in any time zone
_EARLIEST = -62_135_596_800 + 86_400

_INTEGERS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "hour": pc.hour,
    "weekday": pc.day_of_week,
    "day": pc.day,
    "month": pc.month,
    "hour_of_week": lambda local: pc.add(pc.multiply(pc.day_of_week(local), 24), pc.hour(local)),
    "is_weekend": lambda local: pc.greater_equal(pc.day_of_week(local), 5),
}
_CYCLES: dict[str, tuple[str, int, int]] = {
    "hour_cycle": ("hour", 0, 24),
    "weekday_cycle": ("weekday", 0, 7),
    "month_cycle": ("month", 1, 12),
    "hour_of_week_cycle": ("hour_of_week", 0, 168),
}
"""By name the part, its least value and how many values there are."""


@dataclass(frozen=True, eq=False)
class FittedTimeParts(FittedDerived):
    """Parts of times."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the parts in the order of `TimeParts.parts`."""
        assert isinstance(self.of, TimeParts)
        local = _local(column(table, self.of.column), self.of.timezone)
        made: list[pa.Array] = []
        for part in self.of.parts:
            if part in _CYCLES:
                made += _cycle(local, *_CYCLES[part])
            else:
                kind = pa.bool_() if part == "is_weekend" else pa.int32()
                made.append(_INTEGERS[part](local).cast(kind))
        return made


@register("time_parts")
@dataclass(frozen=True)
class TimeParts(Stateless, OneColumn):
    """Adds ``<output>_<part>`` for each part of a time, in a named time zone.

    Weekdays count from Monday = 0, hours of the week from Monday's midnight = 0; ``is_weekend`` is
    boolean, the others int32. A ``…_cycle`` gives two columns ``…_sin`` and ``…_cos`` of float64,
    the place on a circle, so that the last hour is next to the first. Times are seconds since 1970
    as integers, or Arrow timestamps (without a zone taken as UTC) or dates; missing ones, and
    those outside of the years 1 to 9999, give null. From 2038 on zones are taken to be without
    daylight saving time, as Arrow does not read that part of their rules.
    """

    parts: tuple[Part, ...] = field(default=("hour", "weekday"), kw_only=True)
    timezone: str = field(default="UTC", kw_only=True)

    fitted_type = FittedTimeParts

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {*_INTEGERS, *_CYCLES}
        unknown = [part for part in self.parts if part not in known]
        if unknown or not self.parts or len(set(self.parts)) < len(self.parts):
            raise ConfigError(
                f"TimeParts({self.column!r}): parts must be different ones of {sorted(known)}, got "
                f"{self.parts}"
            )
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigError(
                f"TimeParts({self.column!r}): unknown timezone {self.timezone!r}: use a name such "
                f"as 'Asia/Shanghai'"
            ) from None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that are added."""
        names: list[str] = []
        for part in self.parts:
            if part in _CYCLES:
                stem = part.removesuffix("_cycle")
                names += [f"{self.target}_{stem}_sin", f"{self.target}_{stem}_cos"]
            else:
                names.append(f"{self.target}_{part}")
        return tuple(names)

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return the fields of all parts."""
        kind = self.kind(schema)
        fits = pa.types.is_integer(kind) or pa.types.is_null(kind)
        fits = fits or pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        wanted = "seconds as integers, timestamps or dates"
        require(fits, self.column, self.name, wanted, kind)
        kinds: list[pa.DataType] = []
        for part in self.parts:
            if part in _CYCLES:
                kinds += [pa.float64(), pa.float64()]
            else:
                kinds.append(pa.bool_() if part == "is_weekend" else pa.int32())
        return tuple(pa.field(n, k) for n, k in zip(self.outputs, kinds, strict=True))


def _local(times: pa.Array, timezone: str | None) -> pa.Array:
    """Return times as timestamps of a zone, null where missing or out of range."""
    if pa.types.is_date(times.type):
        timezone = None  # a date is one of the zone already
        times = times.cast(pa.timestamp("s")).cast(pa.int64())
    elif pa.types.is_timestamp(times.type):
        times = seconds_of(times)
    elif pa.types.is_uint64(times.type):
        times = pc.min_element_wise(times, pa.scalar(1 << 62, pa.uint64()), skip_nulls=False)
    seconds = times.cast(pa.int64())
    inside = pc.and_(pc.greater_equal(seconds, _EARLIEST), pc.less_equal(seconds, _LONGEST))
    kept = pc.if_else(inside, seconds, pa.scalar(None, pa.int64()))
    return kept.cast(pa.timestamp("s", timezone))


def _cycle(local: pa.Array, part: str, first: int, values: int) -> list[pa.Array]:
    numbers = _INTEGERS[part](local).cast(pa.int32())
    angle = 2 * np.pi / values * np.arange(values)
    places = pc.subtract(numbers, first)
    return [pa.array(circle).take(places) for circle in (np.sin(angle), np.cos(angle))]
