"""What the configurations of networks over histories have in common."""

from __future__ import annotations

from dataclasses import dataclass

from weiml.errors import ConfigError
from weiml.models.deep.config import DeepConfig

__all__ = ["SequenceConfig"]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(DeepConfig):
    """Which slots are histories, and what each is compared with.

    A history's keys are oldest first, as a `weiml.features.Sequence` makes them, with the ids of
    its target: ``Sequence("history", ids_of="item")``.
    """

    targets: tuple[str, ...] = ()
    """For each of `sequences` the slot of the candidate that it is compared with; "" for one that
    has no counterpart, such as the time since each event, if the sequences are `joined`."""
    joined: bool = False
    """Whether the sequences run side by side: the j-th keys of all tell of one event (its item,
    its category, the bucket of the time since), whose rows are put together. Each example's must
    then be equally long. Otherwise each sequence is a history of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sequences:
            raise ConfigError(
                f"model {self.name!r} reads histories: sequences must name their slots and targets "
                'the slots they are compared with, such as sequences = ["history"], targets = '
                '["item"]'
            )
        if len(self.targets) != len(self.sequences):
            raise ConfigError(
                f"targets must name one slot for each of sequences {self.sequences}, got "
                f"{self.targets}"
            )
        if not (any(self.targets) if self.joined else all(self.targets)):
            raise ConfigError(
                f"targets {self.targets}: a history needs a slot to be compared with; only "
                "joined sequences may leave out some"
            )
