"""A plan as a declaration: data, features, trees, network, calibration and test, in one file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from weiml.config import from_mapping, lay_over, nearest, parse_overrides
from weiml.errors import ConfigError
from weiml.features import FeatureSpec
from weiml.models.calibration import Calibration, Isotonic, calibration_from_mapping
from weiml.models.trees.config import GBDTConfig
from weiml.train.config import TrainConfig

__all__ = ["PARTS", "DataConfig", "Plan", "Shares", "TestConfig"]

PARTS = ("train", "validation", "calibration", "test")
"""In this order, also where examples are split by time."""
_METRICS = (
    "auc",
    "calibration_ratio",
    "ece",
    "ece_equal_mass",
    "gauc",
    "log_loss",
    "mrr",
    "ndcg_at_10",
    "ne",
    "positive_rate",
    "precision_at_10",
    "rce",
    "recalibrated_ne",
)
_GBDT_LR = "gbdt_lr"

Paths: TypeAlias = str | tuple[str, ...]
"""A path, pattern or URL, or several."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What part of one set goes where; the shares sum to 1."""

    train: float = 0.7
    validation: float = 0.1
    """May be 0: then nothing is validated, and all epochs are run."""
    calibration: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        shares = {part: getattr(self, part) for part in PARTS}
        empty = [part for part, share in shares.items() if share <= 0 and part != "validation"]
        if empty or self.validation < 0 or abs(sum(shares.values()) - 1) > 1e-9:
            raise ConfigError(
                f"shares must sum to 1 and be above 0 (validation may be 0), got {shares}"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples are: one set that is split (`dataset` or `files`), or a set a part."""

    dataset: str = ""
    """A registered data set, see `weiml.data.fetch`; its table `table` is split."""
    table: str = "examples"
    files: Paths = ()
    """Files that are split."""

    train: Paths = ()
    """Files of this part alone; without ``[features]`` the folder of a data set of batches."""
    validation: Paths = ()
    """For early stopping; the network and the trees do without if there are none."""
    calibration: Paths = ()
    """What the calibration is fitted on: none of the examples of train and test."""
    test: Paths = ()
    format: str | None = None
    """Of the files; by their suffixes if None."""

    split: Literal["time", "hash"] = "time"
    """By time the test comes last; by hash all examples of equal `by` are in the same part."""
    by: tuple[str, ...] = ()
    """The time column, or the columns that are hashed; the spec's `time`, or its `group`, if not
    given."""
    shares: Shares = field(default_factory=Shares)
    keep_negatives: float = 1.0
    """Share of the negatives of train and validation that is kept. Scores then come out too high;
    the calibration, which sees all negatives, puts them right."""
    seed: int = 0
    """Of the split by hash and of the negatives that are kept."""
    engine: Literal["auto", "local", "ray"] = "auto"
    """Where examples are read and encoded; it changes no bit."""
    identify: Literal["content", "stat"] = "content"
    """How a changed file is noticed: by its SHA-256, or by size and time, which reads nothing.
    Objects in stores are known by what the store says of them."""

    def __post_init__(self) -> None:
        own = [part for part in PARTS if getattr(self, part)]
        whole = [name for name in ("dataset", "files") if getattr(self, name)]
        missing = [part for part in PARTS if part not in ("validation", *own)]
        if len(whole) + bool(own) != 1:
            raise ConfigError(
                "data must name one of dataset, files, or the parts "
                f"{', '.join(PARTS)}; got {', '.join(whole + own) or 'none of them'}"
            )
        if own and missing:
            raise ConfigError(
                f"data has {', '.join(own)}, but no {', '.join(missing)}: name files for each, or "
                "one set of `files` to split"
            )
        if not 0 < self.keep_negatives <= 1:
            raise ConfigError(
                f"keep_negatives must be above 0 and at most 1, got {self.keep_negatives}"
            )
        if self.split == "time" and len(self.by) > 1:
            raise ConfigError(f"by must name one time column, got {self.by}")

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that there are."""
        if self.train:
            return tuple(part for part in PARTS if getattr(self, part))
        return tuple(part for part in PARTS if getattr(self.shares, part) > 0)

    def paths(self, name: str) -> tuple[str, ...]:
        """Return the paths in the field `name`."""
        given = getattr(self, name)
        return (given,) if isinstance(given, str) else tuple(given)


@dataclass(frozen=True, kw_only=True)
class TestConfig:
    """What is told of the test; all metrics are written to ``metrics.json`` in any case."""

    __test__ = False  # not a test of pytest's

    metrics: tuple[str, ...] = ("auc", "log_loss", "ne", "calibration_ratio", "ece_equal_mass")
    """Names of `weiml.models.evaluate_scores`; of several tasks also ``TASK_NAME``."""

    def __post_init__(self) -> None:
        for name in self.metrics:
            if not any(name == known or name.endswith(f"_{known}") for known in _METRICS):
                raise ConfigError(f"test has no metric {name!r}{nearest(name, _METRICS)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model's whole training, stage by stage; `run_plan` runs it.

    Raises:
        ConfigError: the sections do not fit one another.
    """

    data: DataConfig
    features: FeatureSpec | None = None
    """Whose transforms, discretizers among them, are fitted on train. None if `data` names data
    sets of batches, which are encoded already."""
    trees: GBDTConfig | None = None
    """Trees that are grown first, for the model ``gbdt_lr``."""
    network: TrainConfig = field(default_factory=TrainConfig)
    calibration: Calibration = field(default_factory=Isotonic)
    test: TestConfig = field(default_factory=TestConfig)

    def __post_init__(self) -> None:
        model = self.network.model_config
        if self.trees is not None and model.name != _GBDT_LR:
            raise ConfigError(
                f"[trees] are for network.model = {_GBDT_LR!r}, got {model.name!r}: change the "
                "model, or leave the trees out"
            )
        if model.name == _GBDT_LR and (self.trees is None) != bool(getattr(model, "trees", "")):
            raise ConfigError(
                f"the model {_GBDT_LR!r} takes its trees of one place: a section [trees], or "
                "network.model.trees"
            )
        if self.features is None and (not self.data.train or self.data.keep_negatives < 1):
            raise ConfigError(
                "without [features] data must name a data set of batches for each part, and all "
                "of its examples are used"
            )

    @classmethod
    def from_mapping(
        cls,
        mapping: Mapping[str, Any],
        *,
        overrides: Iterable[str] = (),
        root: str | Path = "",
        where: str = "plan",
    ) -> Self:
        """Build a plan from nested mappings as in TOML.

        Args:
            mapping: the sections. ``features`` is a feature spec, or ``{"spec": path}``.
            overrides: ``section.knob=value``, on top.
            root: folder that relative paths are below; the working directory by default.
            where: names the plan in errors.

        Raises:
            ConfigError: a key is unknown or missing, a value does not fit, or sections don't.
        """
        tree = lay_over(mapping, parse_overrides(overrides))
        if isinstance(tree.get("data"), Mapping):
            tree["data"] = _below(tree["data"], Path(root))
        if isinstance(tree.get("features"), Mapping):
            tree["features"] = _spec(tree["features"], Path(root), f"{where}: features")
        if isinstance(tree.get("calibration"), str):
            tree["calibration"] = {"name": tree["calibration"]}
        if isinstance(tree.get("calibration"), Mapping):
            try:
                tree["calibration"] = calibration_from_mapping(tree["calibration"])
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None
        return from_mapping(cls, tree, where=where)

    @classmethod
    def from_toml(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a plan from TOML; relative paths in it are below the file's folder.

        Raises:
            ConfigError: the file is missing or malformed, or see `from_mapping`.
        """
        file = Path(path)
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError):
            raise ConfigError(f"plan {file} does not exist") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid TOML: {error}") from None
        return cls.from_mapping(
            tree, overrides=overrides, root=file.resolve().parent, where=str(file)
        )


def _below(data: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the section `data` with its relative paths below a folder."""

    def placed(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [placed(item) for item in value]
        is_path = isinstance(value, str) and value and "://" not in value
        return str(root / value) if is_path else value

    return {
        name: placed(value) if name in ("files", *PARTS) else value for name, value in data.items()
    }


def _spec(tree: Mapping[str, Any], root: Path, where: str) -> FeatureSpec:
    if "spec" not in tree:
        return FeatureSpec.from_mapping(tree, where=where)
    if set(tree) != {"spec"} or not isinstance(tree["spec"], str):
        raise ConfigError(
            f"{where} is a feature spec, or the path of one as `spec` alone, got "
            f"{', '.join(sorted(tree))}"
        )
    return FeatureSpec.from_toml(root / tree["spec"])
