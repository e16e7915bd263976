"""Compositions: transforms one after the other, and transforms side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from weiml.errors import ConfigError, DataError
from weiml.features.transforms.base import Accumulator, Fitted, Transform, same_transform
from weiml.features.transforms.columns import put, put_schema
from weiml.features.transforms.registry import (
    fitted_from_mapping,
    register,
    transform_from_mapping,
)

__all__ = ["Chain", "FittedChain", "FittedTogether", "Together"]


@dataclass(frozen=True)
class _Composition(Transform):
    stages: tuple[Transform, ...]

    def __init__(self, *stages: Transform) -> None:
        # Frozen, and called with stages side by side: Chain(MinMax("age"), Powers("age")).
        object.__setattr__(self, "stages", stages)
        if not stages:
            raise ConfigError(f"{type(self).__name__} needs at least one transform")

    @property
    def learns(self) -> bool:  # type: ignore[override]
        """Whether a stage does."""
        return any(stage.learns for stage in self.stages)

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """What any stage is fitted on and comes out of none before it in a chain."""
        extra = [n for stage in self.stages for n in stage.fitted_on if n not in stage.inputs]
        return tuple(dict.fromkeys([*self.inputs, *extra]))

    def to_mapping(self) -> dict[str, Any]:
        """Return the stages' configurations."""
        return {"type": self.name, "stages": [stage.to_mapping() for stage in self.stages]}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str = "transform") -> Self:
        """Build the composition from a mapping with ``stages``.

        Raises:
            ConfigError: it has no list of stages, or a stage is wrong.
        """
        stages = mapping.get("stages")
        if not isinstance(stages, Sequence) or set(mapping) != {"stages"}:
            raise ConfigError(f"{where} must have a list of stages only, got {list(mapping)}")
        return cls(
            *(
                transform_from_mapping(stage, where=f"{where}: stages[{i}]")
                for i, stage in enumerate(stages)
            )
        )


@dataclass(frozen=True, eq=False)
class _FittedComposition(Fitted):
    of: _Composition
    stages: tuple[Fitted, ...]

    @property
    def transform(self) -> Transform:
        """What was fitted."""
        return self.of

    def to_mapping(self) -> dict[str, Any]:
        """Return the stages, each whole."""
        state = {"stages": [stage.to_mapping() for stage in self.stages]}
        return {"transform": self.of.to_mapping(), "state": state}


class FittedChain(_FittedComposition):
    """Fitted stages, one after the other."""

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the table after all stages."""
        for stage in self.stages:
            table = stage.apply(table)
        return table


@register("chain")
class Chain(_Composition):
    """Transforms one after the other: each is fitted on what comes out of the one before.

    Every stage that learns needs a pass over the data of its own, the stages before it applied on
    the way: `fit_tables` does it, and `Accumulator.then` is how it is done with workers. Stages
    that do not build on each other are better put side by side by `Together`, in one pass.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read and come out of no stage before."""
        needed: dict[str, None] = {}
        made: set[str] = set()
        for stage in self.stages:
            needed |= dict.fromkeys(name for name in stage.inputs if name not in made)
            made |= set(stage.outputs)
        return tuple(needed)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that come out of any stage."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.outputs))

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema after all stages."""
        for stage in self.stages:
            schema = stage.output_schema(schema)
        return schema

    def accumulator(self) -> Accumulator:
        """Return the accumulator of the first pass; see `Accumulator.then` for further ones."""
        return _ChainSeen(self, ())

    @classmethod
    def read_state(cls, transform: Transform, state: Mapping[str, Any]) -> FittedChain:
        """Build the fitted chain from its state."""
        assert isinstance(transform, _Composition)
        return FittedChain(transform, tuple(fitted_from_mapping(s) for s in state["stages"]))


class _ChainSeen(Accumulator):
    """The stages fitted so far, and the accumulator of the next one that learns."""

    def __init__(
        self, transform: Chain, done: tuple[Fitted, ...], inner: Accumulator | None = None
    ) -> None:
        self.transform = transform
        self.done = done if inner is not None else self._forward(done)
        if inner is None and len(self.done) < len(transform.stages):
            inner = transform.stages[len(self.done)].accumulator()
        self.inner = inner

    def _forward(self, done: tuple[Fitted, ...]) -> tuple[Fitted, ...]:
        """Return the stages fitted, with those that follow and need no data."""
        for stage in self.transform.stages[len(done) :]:
            if stage.learns:
                break
            done = (*done, stage.accumulator().fitted())
        return done

    def add(self, table: pa.Table) -> None:
        self.transform.output_schema(table.schema)
        if self.inner is not None:
            for stage in self.done:
                table = stage.apply(table)
            self.inner.add(table)

    def merge(self, other: Self) -> None:
        same_transform(self.transform, other.transform)
        if self.done != other.done:
            raise DataError("accumulators of different passes of a chain do not merge")
        if self.inner is not None and other.inner is not None:
            self.inner.merge(other.inner)

    def then(self) -> Accumulator | None:
        if self.inner is None:
            return None
        again = self.inner.then()
        if again is not None:
            return _ChainSeen(self.transform, self.done, again)
        following = _ChainSeen(self.transform, (*self.done, self.inner.fitted()))
        return None if following.inner is None else following

    def fitted(self) -> FittedChain:
        done = self.done
        if self.inner is not None:
            done = self._forward((*done, self.inner.fitted()))
        if len(done) < len(self.transform.stages):
            raise DataError(
                f"stage {len(done)} of a chain, {self.transform.stages[len(done)]}, has not been "
                f"fitted: it needs another pass over the data; use fit_tables, or go on with then()"
            )
        return FittedChain(self.transform, done)


class FittedTogether(_FittedComposition):
    """Fitted transforms, side by side."""

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the table with the outputs of all."""
        result = table
        for stage in self.stages:
            names = stage.transform.outputs
            made = stage.apply(table)
            fields = [made.schema.field(name) for name in names]
            result = put(result, fields, [made.column(name) for name in names])
        return result


@register("together")
class Together(_Composition):
    """Transforms side by side: each reads the table as it is given. Fitted in one pass.

    Raises:
        ConfigError: two of them write the same column.
    """

    def __init__(self, *stages: Transform) -> None:
        super().__init__(*stages)
        names = [name for stage in stages for name in stage.outputs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(f"Together: {repeated} come out of more than one transform")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that any of them reads."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.inputs))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that any of them writes."""
        return tuple(name for stage in self.stages for name in stage.outputs)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema with the outputs of all."""
        result = schema
        for stage in self.stages:
            made = stage.output_schema(schema)
            result = put_schema(result, [made.field(name) for name in stage.outputs])
        return result

    def accumulator(self) -> Accumulator:
        """Return the accumulators of all."""
        return _TogetherSeen(self, tuple(stage.accumulator() for stage in self.stages))

    @classmethod
    def read_state(cls, transform: Transform, state: Mapping[str, Any]) -> FittedTogether:
        """Build the fitted transforms from their state."""
        assert isinstance(transform, _Composition)
        return FittedTogether(transform, tuple(fitted_from_mapping(s) for s in state["stages"]))


class _TogetherSeen(Accumulator):
    """Of each transform its accumulator, or its fitted form once it needs no more passes."""

    def __init__(self, transform: Together, parts: tuple[Accumulator | Fitted, ...]) -> None:
        self.transform = transform
        self.parts = parts

    def add(self, table: pa.Table) -> None:
        self.transform.output_schema(table.schema)
        for part in self.parts:
            if isinstance(part, Accumulator):
                part.add(table)

    def merge(self, other: Self) -> None:
        same_transform(self.transform, other.transform)
        pairs = list(zip(self.parts, other.parts, strict=True))
        for mine, theirs in pairs:
            seeing = isinstance(mine, Accumulator), isinstance(theirs, Accumulator)
            if seeing[0] != seeing[1] or (not seeing[0] and mine != theirs):
                raise DataError("accumulators of different passes over the data do not merge")
        for mine, theirs in pairs:
            if isinstance(mine, Accumulator) and isinstance(theirs, Accumulator):
                mine.merge(theirs)

    def then(self) -> Accumulator | None:
        following: list[Accumulator | Fitted] = []
        for part in self.parts:
            again = part.then() if isinstance(part, Accumulator) else None
            following.append(_fitted(part) if again is None else again)
        if not any(isinstance(part, Accumulator) for part in following):
            return None
        return _TogetherSeen(self.transform, tuple(following))

    def fitted(self) -> FittedTogether:
        return FittedTogether(self.transform, tuple(_fitted(part) for part in self.parts))


def _fitted(part: Accumulator | Fitted) -> Fitted:
    return part.fitted() if isinstance(part, Accumulator) else part
