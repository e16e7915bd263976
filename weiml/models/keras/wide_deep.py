"""Wide & Deep with a Keras network; see `weiml.models.deep.wide_deep`, whose tables it has.

    logit = Σ_k w_k x_k + MLP([pool_s(v_k x_k) for slots s] ‖ dense)

(Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from weiml.models.deep.config import DeepConfig
from weiml.models.deep.shape import InputShape
from weiml.models.keras.base import KerasModel
from weiml.models.registry import register_model

__all__ = ["KerasWideDeep", "KerasWideDeepConfig"]


@dataclass(frozen=True, kw_only=True)
class KerasWideDeepConfig(DeepConfig):
    """As `WideDeepConfig`."""

    name: Literal["keras_wide_deep"] = "keras_wide_deep"
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False


@register_model
class KerasWideDeep(KerasModel):
    """See the module."""

    name = "keras_wide_deep"
    config_class = KerasWideDeepConfig
    config: KerasWideDeepConfig
    has_linear = True

    def build(self, shape: InputShape) -> Any:
        """See `KerasModel.build`."""
        import keras
        from keras import layers

        inputs = self.inputs()
        x = inputs["flat"]
        for size in self.config.hidden:
            x = layers.Dense(size, kernel_initializer="he_uniform")(x)
            if self.config.batch_norm:
                x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
            x = layers.Activation("relu")(x)
            if self.config.dropout:
                x = layers.Dropout(self.config.dropout)(x)
        deep = layers.Dense(1, kernel_initializer="glorot_uniform", dtype="float32")(x)
        logits = layers.Add()([layers.Flatten()(deep)[:, 0], inputs["linear"]])
        return keras.Model(inputs, logits)
