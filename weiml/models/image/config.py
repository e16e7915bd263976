"""What the configurations of all image models have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from weiml.errors import ConfigError
from weiml.models.deep.network_config import NetworkConfig

__all__ = ["ImageConfig", "Norm"]

Norm = Literal["none", "group", "batch"]


@dataclass(frozen=True, kw_only=True)
class ImageConfig(NetworkConfig):
    """Form of the images, names of their classes, and how they are changed in training.

    Pixels are numbers from 0 (black) to 255; the network sees (pixel / 255 - mean) / std.
    """

    height: int = 28
    width: int = 28
    channels: int = 1
    """An image is height · width · channels dense columns, channels innermost."""
    mean: tuple[float, ...] = (0.5,)
    """Of each channel, or one for all; as shares of 255."""
    std: tuple[float, ...] = (0.5,)
    classes: tuple[str, ...] = tuple("0123456789")
    """Names of the classes; a label is a class's place here. Examples are ranked by the first."""
    norm: Norm = "none"
    """What normalises activations. "batch" takes statistics of each worker's own batch, so that
    what is learned depends on how a batch is shared out; "group" and "none" do not."""
    shift: int = 0
    """In training, images move by up to so many pixels each way; what comes in is black."""
    flip: bool = False
    """In training, every other image is mirrored, left to right."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob in ("height", "width", "channels"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        for knob in ("mean", "std"):
            if len(getattr(self, knob)) not in (1, self.channels):
                raise ConfigError(
                    f"{knob} must have 1 number or one for each of channels = {self.channels}, "
                    f"got {getattr(self, knob)}"
                )
        if not all(std > 0 for std in self.std):
            raise ConfigError(f"std must be above 0, got {self.std}")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"classes must be two different names or more, got {self.classes}")
        if not 0 <= self.shift < min(self.height, self.width):
            raise ConfigError(
                f"shift must be at least 0 and less than the image's sides, got {self.shift}"
            )

    @property
    def num_pixels(self) -> int:
        """Dense columns of an image."""
        return self.height * self.width * self.channels
