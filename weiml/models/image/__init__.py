"""Networks over images. Importing this loads torch; `weiml.models` does so when it must."""

from __future__ import annotations

from weiml.models.image.base import ImageModel
from weiml.models.image.config import ImageConfig

__all__ = ["ImageConfig", "ImageModel"]
