"""What an ONNX graph is given: its inputs by name, each from columns of the batch or from rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from weiml.errors import ConfigError
from weiml.models.registry import ModelConfig

__all__ = ["ROW_SOURCES", "OnnxConfig", "OnnxInput", "Source"]

Source = Literal[
    "dense", "ids", "offsets", "values", "padded", "flat", "linear", "sequences", "mask"
]
ROW_SOURCES = ("flat", "linear", "sequences", "mask")
"""Inputs of a model's network, made of its rows; see `weiml.models.deep.contract.Arrays`."""


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """One input of the graph. Numbers are given in the type that the graph asks for."""

    name: str
    """In the graph."""
    source: Source
    """dense: columns (B, n). Of the n keys of one slot in a batch: ids (n,), offsets (B,) where
    each example's begin (as EmbeddingBag has it), values (n,), or padded (B, length), the ids + 1
    and 0 behind the last. The rest is what the network of `OnnxConfig.rows_of` sees."""
    columns: tuple[str, ...] = ()
    """Of dense: names of dense columns; none: all."""
    slot: str = ""
    buckets: int = 0
    """An id is its key modulo this number; 0: the 64 bits of the key."""
    length: int = 0
    """Of padded: keys beyond it are left out."""

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            raise ConfigError(f"source must be one of {get_args(Source)}, got {self.source!r}")
        keyed = self.source in ("ids", "offsets", "values", "padded")
        if keyed != bool(self.slot):
            told = "needs a slot" if keyed else f"reads no slot, got {self.slot!r}"
            raise ConfigError(f"input {self.name!r} of source {self.source!r} {told}")
        if (self.source == "padded") != (self.length > 0):
            raise ConfigError(
                f"input {self.name!r}: length goes with source padded and is at least 1 there, got "
                f"source {self.source!r} and length {self.length}"
            )
        if self.buckets < 0:
            raise ConfigError(f"buckets must not be negative, got {self.buckets}")


@dataclass(frozen=True, kw_only=True)
class OnnxConfig(ModelConfig):
    """A graph and what its inputs are."""

    name: Literal["onnx"] = "onnx"
    file: str = ""
    """The .onnx file. A saved model holds the graph itself and names no file."""
    inputs: tuple[OnnxInput, ...] = ()
    output: str = ""
    """Of the graph: (B,) or (B, T); the first by default."""
    gives: Literal["logits", "probabilities"] = "logits"
    """What the output is."""
    tasks: tuple[str, ...] = field(default=("label",))
    main_task: str = ""
    """By which examples are ranked; the first by default."""
    rows_of: ModelConfig | None = None
    """The model whose network the graph is: its tables, crosses, pooling and loss hold."""

    def __post_init__(self) -> None:
        names = [given.name for given in self.inputs]
        if len(set(names)) < len(names):
            raise ConfigError(f"inputs are named twice: {sorted(names)}")
        rows = [given.name for given in self.inputs if given.source in ROW_SOURCES]
        if rows and self.rows_of is None:
            raise ConfigError(f"inputs {rows} are made of rows: set rows_of to the model's table")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(f"tasks must be different names, got {self.tasks}")
        if self.main_task and self.main_task not in self.tasks:
            raise ConfigError(f"main_task {self.main_task!r} is none of {self.tasks}")
