"""The objectives that come with weiml; none knows Ray or the sampler."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weiml.config import from_mapping, lay_over, load_config, to_mapping
from weiml.data import BatchDataset, write_batches
from weiml.errors import ConfigError
from weiml.search.base import Objective, Report, register_objective
from weiml.search.space import Space

if TYPE_CHECKING:
    from weiml.train import TrainConfig

__all__ = ["Bowl", "TrainValidation"]


@register_objective("bowl")
@dataclass(frozen=True, kw_only=True)
class Bowl(Objective):
    """A paraboloid over all numeric parameters, for trying a space or the machinery, not a model.

    ``loss = Σ (x - centre)²``; step s of `steps` reports ``loss + 1/s``, a curve that falls to it.
    """

    centre: float = 0.0
    steps: int = 0
    step_s: float = 0.0
    """How long a step takes."""

    def identity(self) -> dict[str, Any]:
        """See `Objective.identity`; how long a step takes changes no value."""
        return {name: value for name, value in super().identity().items() if name != "step_s"}

    def __call__(self, params: Mapping[str, Any], report: Report) -> Mapping[str, float]:
        """Return ``{"loss": …}``.

        Raises:
            ConfigError: a parameter is no number.
        """
        for name, value in params.items():
            if not isinstance(value, (int, float)):
                raise ConfigError(f"the bowl takes numbers, got {name} = {value!r}")
        loss = sum((float(value) - self.centre) ** 2 for value in params.values())
        for step in range(1, self.steps + 1):
            time.sleep(self.step_s)
            report(step, {"loss": loss + 1.0 / step})
        return {"loss": loss}


@register_objective("train.validation")
@dataclass(frozen=True, kw_only=True)
class TrainValidation(Objective):
    """Train a model embedded, in the trial's own process, and score it on the validation set.

    The searched parameters are dotted paths into `TrainConfig`, laid over `base`; its transport
    and number of shards don't count here. The metrics are
    those of the best epoch: log_loss, auc, gauc and so on.
    """

    train: Path
    """Folder of the training set; trials read it, it does not travel."""
    validation: Path
    train_fraction: float = 1.0
    """Share of the training set used, its last examples: cheaper trials, at some loss of truth."""
    base: dict[str, Any] = field(default_factory=dict)
    """TrainConfig as nested tables, below the searched parameters."""
    config: Path | None = None
    """A TOML file of TrainConfig, below `base`; read once, when the search starts."""

    def __post_init__(self) -> None:
        if not 0 < self.train_fraction <= 1:
            raise ConfigError(f"train_fraction must be in (0, 1], got {self.train_fraction}")
        # A worker may be in another folder, and the file may change meanwhile.
        object.__setattr__(self, "train", self.train.resolve())
        object.__setattr__(self, "validation", self.validation.resolve())
        if self.config is not None:
            from weiml.train import TrainConfig

            file = to_mapping(load_config(TrainConfig, self.config))
            object.__setattr__(self, "base", lay_over(file, self.base))
            object.__setattr__(self, "config", None)
        self.train_config({})

    def configuration(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The TrainConfig of a trial as nested tables."""
        return to_mapping(self.train_config(params))

    def train_config(self, params: Mapping[str, Any]) -> TrainConfig:
        """The TrainConfig of a trial.

        Raises:
            ConfigError: a parameter is no knob of TrainConfig, or its value does not fit.
        """
        from weiml.train import TrainConfig

        tree = lay_over(self.base, Space.nested(params))
        return from_mapping(TrainConfig, tree, where="train.validation")

    def __call__(self, params: Mapping[str, Any], report: Report) -> Mapping[str, float]:
        """Train and validate once.

        Raises:
            ConfigError: a parameter does not fit, or training diverged.
            DataError: a set is missing or empty.
        """
        from weiml.train import Trainer

        # A trial is one process with one core; both transports give equal models.
        config = replace(self.train_config(params), transport="embedded", num_shards=1)
        validation = BatchDataset.open(self.validation)
        with _most_recent(BatchDataset.open(self.train), self.train_fraction) as train:
            result = Trainer(config).fit(train, validation)
        best = result.history[result.best_epoch - 1]
        metrics = {
            name.removeprefix("validation_"): float(value)
            for name, value in best.items()
            if name.startswith("validation_")
        }
        return metrics | {"epochs": float(len(result.history)), "best_epoch": float(best["epoch"])}


@contextmanager
def _most_recent(dataset: BatchDataset, fraction: float) -> Iterator[BatchDataset]:
    """The last `fraction` of a dataset, as a dataset that is gone afterwards."""
    if fraction == 1.0:
        yield dataset
        return
    size = max(1, round(fraction * dataset.num_examples))
    with tempfile.TemporaryDirectory(prefix="weiml-trial-") as folder:
        batch = dataset.read().slice(dataset.num_examples - size, dataset.num_examples)
        yield write_batches([batch], Path(folder) / "train")
