"""Models by name. A model's module is imported when it is first used, so that listing is cheap.

A configuration file says ``name = "dnn"`` in its model table; the other keys are the model's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from weiml.config import from_mapping, nearest
from weiml.errors import ConfigError

if TYPE_CHECKING:
    from weiml.models.base import Model

__all__ = ["MODELS", "ModelConfig", "model_class", "model_config", "register_model"]

M = TypeVar("M", bound="type[Model]")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What all models' configurations have: the model's name."""

    name: str = ""

    @classmethod
    def __from_config__(cls, value: Any, where: str) -> Self:
        """Build the configuration that a file or a keyword gives; see `weiml.config`."""
        own = cls.__dataclass_fields__["name"].default
        if own and isinstance(value, Mapping) and "name" not in value:
            value = {"name": own, **value}  # the field's type says which model it is
        config = model_config(value, where=where)
        if not isinstance(config, cls):
            raise ConfigError(f"{where} must be a {cls.__name__}, got {config!r}")
        return config


MODELS: dict[str, str | type[Model]] = {
    "autoint": "weiml.models.deep.autoint:AutoInt",
    "bst": "weiml.models.sequence.bst:BST",
    "cnn": "weiml.models.image.cnn:CNN",
    "dcn_v2": "weiml.models.deep.dcn_v2:DCNV2",
    "deepfm": "weiml.models.deep.deepfm:DeepFM",
    "dien": "weiml.models.sequence.dien:DIEN",
    "din": "weiml.models.sequence.din:DIN",
    "dnn": "weiml.models.deep.dnn:DNN",
    "dpn": "weiml.models.image.dpn:DPN",
    "esmm": "weiml.models.multitask.esmm:ESMM",
    "ffm": "weiml.models.factorization.field_aware:FFM",
    "fibinet": "weiml.models.deep.fibinet:FiBiNET",
    "final_mlp": "weiml.models.deep.final_mlp:FinalMLP",
    "fm": "weiml.models.factorization.machine:FM",
    "gbdt_lr": "weiml.models.trees.gbdt_lr:GBDTLogisticRegression",
    "keras_wide_deep": "weiml.models.keras.wide_deep:KerasWideDeep",
    "lr": "weiml.models.linear.logistic_regression:LogisticRegression",
    "masknet": "weiml.models.deep.masknet:MaskNet",
    "max_norm_dnn": "weiml.models.deep.max_norm_dnn:MaxNormDNN",
    "mmoe": "weiml.models.multitask.mmoe:MMoE",
    "onnx": "weiml.models.onnx.model:OnnxModel",
    "ple": "weiml.models.multitask.ple:PLE",
    "pnn": "weiml.models.deep.pnn:PNN",
    "poly2": "weiml.models.factorization.poly2:Poly2",
    "resnet": "weiml.models.image.resnet:ResNet",
    "shared_bottom": "weiml.models.multitask.shared_bottom:SharedBottom",
    "svm": "weiml.models.linear.svm:LinearSVM",
    "two_tower": "weiml.models.retrieval.two_tower:TwoTower",
    "wide_deep": "weiml.models.deep.wide_deep:WideDeep",
    "xdeepfm": "weiml.models.deep.xdeepfm:XDeepFM",
}
"""The class of each model, or ``module:class`` where it is."""


def register_model(cls: M) -> M:
    """Class decorator: make a model of the user's known under its ``name``, in this process.

    Raises:
        ConfigError: another model has that name.
    """
    path = f"{cls.__module__}:{cls.__qualname__}"
    if MODELS.setdefault(cls.name, cls) not in (cls, path):
        raise ConfigError(f"model {cls.name!r} is registered already, as {MODELS[cls.name]!r}")
    return cls


def model_class(name: str) -> type[Model]:
    """Return the model of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{nearest(name, MODELS)}")
    found = MODELS[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        MODELS[name] = found
    return found


def model_config(value: Any, *, where: str = "model") -> ModelConfig:
    """Return a model's configuration: `value` itself, a name's defaults, or what a mapping says.

    Raises:
        ConfigError: the name or a key is unknown, or a value does not fit.
    """
    if isinstance(value, ModelConfig):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(
            f'{where} must be a table with the model\'s name, such as {{name = "wide_deep"}}, got '
            f"{value!r}; models: {', '.join(sorted(MODELS))}"
        )
    config = from_mapping(model_class(value["name"]).config_class, value, where=where)
    assert isinstance(config, ModelConfig)
    return config
