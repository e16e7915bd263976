"""Keras networks over rows of the parameter server. TensorFlow loads when a model is made."""

from __future__ import annotations

from weiml.models.keras.base import KerasModel
from weiml.models.keras.wide_deep import KerasWideDeep, KerasWideDeepConfig

__all__ = ["KerasModel", "KerasWideDeep", "KerasWideDeepConfig"]
