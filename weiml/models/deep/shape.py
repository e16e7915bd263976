"""What a network over rows is built for, whatever framework computes it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InputShape"]


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """The sizes of a network's inputs."""

    slots: tuple[str, ...]
    """S slots with a pooled embedding each."""
    row_dim: int
    """Numbers of an embedding row: d."""
    dense_names: tuple[str, ...]
    """D dense columns."""
    sequences: tuple[str, ...]
    """Q of the slots, whose keys' rows are also given one by one, in their order."""
    max_length: int
    """L, the longest of them."""

    @property
    def num_inputs(self) -> int:
        """Columns of `Inputs.flat`: S·d + D."""
        return len(self.slots) * self.row_dim + len(self.dense_names)
