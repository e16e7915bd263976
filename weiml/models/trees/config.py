"""How trees are boosted: LightGBM's knobs by its own names, and how batches become columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from weiml.errors import ConfigError

__all__ = ["GBDTConfig"]

_METRICS = {"auc": "auc", "log_loss": "binary_logloss"}
_SEEDS = 2**31


@dataclass(frozen=True, kw_only=True)
class GBDTConfig:
    """Gradient-boosted trees for labels 0 and 1. `weiml.config.load_config` reads it from TOML."""

    rounds: int = 500
    """Trees at most; early stopping may keep fewer."""
    learning_rate: float = 0.05
    num_leaves: int = 31
    max_depth: int = -1
    """No limit below 1."""
    min_data_in_leaf: int = 20
    min_sum_hessian_in_leaf: float = 1e-3
    feature_fraction: float = 1.0
    """Share of the columns that each tree may use."""
    bagging_fraction: float = 1.0
    """Share of the examples that a tree is grown on, drawn anew each `bagging_freq` rounds."""
    bagging_freq: int = 1
    lambda_l1: float = 0.0
    lambda_l2: float = 0.0
    min_gain_to_split: float = 0.0
    max_bin: int = 255
    min_data_in_bin: int = 3
    bin_sample: int = 200_000
    """Examples of which the borders of bins are found, drawn evenly from the whole set."""

    cat_smooth: float = 10.0
    cat_l2: float = 10.0
    max_cat_threshold: int = 32
    max_cat_to_onehot: int = 4
    min_data_per_group: int = 100
    max_categories: int = 1024
    """Of a slot with one key an example: its most frequent keys that are told apart."""
    max_multi_hot: int = 32
    """Of a slot with several keys: its most frequent keys that get a column each."""
    without: tuple[str, ...] = ()
    """Slots and dense columns that trees do not see: crosses and buckets, say."""

    early_stopping_rounds: int = 50
    """Rounds without a better validation metric after which training stops; 0 never stops. The
    best round is kept either way, where there is a validation set."""
    early_stopping_metric: Literal["auc", "log_loss"] = "auc"
    progress_rounds: int = 10
    """Rounds between two progress reports, and two looks at early stopping."""
    checkpoint_rounds: int = 0
    """Rounds between two checkpoints; 0 makes none. It is part of the recipe: at each of these
    rounds training begins anew from the trees so far, so that resumed runs equal whole ones."""

    seed: int = 7
    deterministic: bool = True
    """The same bits in each run with the same number of workers and threads."""
    threads: int = 1
    """Of each worker."""
    transport: Literal["embedded", "ray"] = "embedded"
    """In this process, or on workers that are Ray actors."""
    num_workers: int = 1
    """Workers that each hold a part of the examples (LightGBM's ``tree_learner = "data"``)."""
    cpus_per_worker: float = 1
    """Ray's logical CPUs that a worker takes."""
    timeout_s: float = 120.0
    """For the start of workers and for the links between them."""

    def __post_init__(self) -> None:
        whole = "rounds min_data_in_bin progress_rounds threads num_workers bagging_freq bin_sample"
        for knob in whole.split():
            _require(getattr(self, knob) >= 1, knob, getattr(self, knob), "must be at least 1")
        for knob in ("num_leaves", "max_bin"):
            _require(getattr(self, knob) >= 2, knob, getattr(self, knob), "must be at least 2")
        _require(self.max_bin < 2**16, "max_bin", self.max_bin, "must be below 65536")
        for knob in ("feature_fraction", "bagging_fraction"):
            value = getattr(self, knob)
            _require(0 < value <= 1, knob, value, "must be above 0 and at most 1")
        for knob in ("learning_rate", "timeout_s"):
            _require(getattr(self, knob) > 0, knob, getattr(self, knob), "must be above 0")
        positive = (
            "min_data_in_leaf min_sum_hessian_in_leaf lambda_l1 lambda_l2 min_gain_to_split seed "
            "cat_smooth cat_l2 max_categories max_multi_hot early_stopping_rounds "
            "checkpoint_rounds cpus_per_worker"
        )
        for knob in positive.split():
            _require(getattr(self, knob) >= 0, knob, getattr(self, knob), "must not be negative")
        for knob in ("max_cat_threshold", "max_cat_to_onehot", "min_data_per_group"):
            _require(getattr(self, knob) >= 1, knob, getattr(self, knob), "must be at least 1")
        _require(self.seed < _SEEDS, "seed", self.seed, "must be below 2^31")
        if self.transport == "embedded" and self.num_workers > 1:
            raise ConfigError(
                f"num_workers = {self.num_workers} needs transport = 'ray': LightGBM's workers are "
                "processes; in one process raise threads instead"
            )

    def bin_parameters(self) -> dict[str, Any]:
        """Return LightGBM's parameters for making bins."""
        return {
            "max_bin": self.max_bin,
            "min_data_in_bin": self.min_data_in_bin,
            "bin_construct_sample_cnt": self.bin_sample,
            "data_random_seed": self.seed,
            # What is too rare in a sample may split the whole.
            "feature_pre_filter": False,
            "num_threads": self.threads,
            "verbosity": -1,
        }

    def parameters(self, first_round: int = 0) -> dict[str, Any]:
        """Return LightGBM's parameters for boosting that begins after `first_round` rounds."""
        names = (
            "learning_rate num_leaves max_depth min_data_in_leaf min_sum_hessian_in_leaf "
            "feature_fraction bagging_fraction lambda_l1 lambda_l2 min_gain_to_split cat_smooth "
            "cat_l2 max_cat_threshold max_cat_to_onehot min_data_per_group"
        )
        return {
            **self.bin_parameters(),
            **{name: getattr(self, name) for name in names.split()},
            "bagging_freq": self.bagging_freq if self.bagging_fraction < 1 else 0,
            "objective": "binary",
            "metric": [_METRICS["auc"], _METRICS["log_loss"]],
            # A segment that begins later draws other columns and examples than the first.
            "seed": (self.seed + 1_000_003 * first_round) % _SEEDS,
            "deterministic": self.deterministic,
            "force_row_wise": self.deterministic,
        }


def _require(fits: bool, knob: str, value: object, rule: str) -> None:
    if not fits:
        raise ConfigError(f"{knob} {rule}, got {value}")
