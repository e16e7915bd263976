"""LightGBM's text of a model, taken apart: a head and one block a tree. Text in, text out.

Only what scoring needs is kept: parameters and importances go, so that all workers of a run, whose
ports differ, have the same text. LightGBM reads it like its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from weiml.errors import DataError

__all__ = ["TreeText"]

_TREE = re.compile(r"^Tree=\d+\n", re.MULTILINE)
_END = "end of trees"
_DROPPED = ("tree_sizes=",)


@dataclass(frozen=True)
class TreeText:
    """A model's trees as text."""

    head: str
    """Lines ``name=value`` that all trees share."""
    trees: tuple[str, ...]
    """Each tree's lines, without its number."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read LightGBM's text, or what `str` gives.

        Raises:
            DataError: it is something else, or cut short.
        """
        body, end, _ = text.replace("\r\n", "\n").partition(f"\n{_END}")
        if not body.startswith("tree\n") or not end:
            raise DataError(f"no text of a LightGBM model, or cut short: it begins {text[:40]!r}")
        head, *trees = _TREE.split(body)
        lines = [line for line in head.splitlines() if line and not line.startswith(_DROPPED)]
        if "num_tree_per_iteration=1" not in lines:
            raise DataError("only models with one tree a round are read: those of one class")
        return cls("\n".join(lines), tuple(tree.strip() for tree in trees))

    def __str__(self) -> str:
        blocks = [f"Tree={i}\n{tree}\n\n\n" for i, tree in enumerate(self.trees)]
        sizes = " ".join(str(len(block)) for block in blocks)
        sizes_line = f"tree_sizes={sizes}\n" if blocks else ""
        return f"{self.head}\n{sizes_line}\n{''.join(blocks)}{_END}\n"

    def __len__(self) -> int:
        return len(self.trees)

    def first(self, count: int) -> Self:
        """Return the first `count` trees."""
        return type(self)(self.head, self.trees[:count])

    def then(self, other: TreeText) -> Self:
        """Return these trees and then another text's."""
        return type(self)(self.head, (*self.trees, *other.trees))

    def number(self, name: str) -> int:
        """Return a number of the head.

        Raises:
            DataError: there is no such line.
        """
        found = re.search(rf"^{name}=(\d+)$", self.head, re.MULTILINE)
        if found is None:
            raise DataError(f"the text of the model has no line {name}=")
        return int(found[1])
