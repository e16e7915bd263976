"""How a model is trained: which one, on what transport, for how long."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from weiml.errors import ConfigError
from weiml.group import WorkerGroupConfig
from weiml.models.registry import ModelConfig, model_class, model_config
from weiml.ps.wire import WireConfig
from weiml.train.schedules import Constant, Schedule

__all__ = ["TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. `weiml.config.load_config` reads it from configs/models/*.toml."""

    model: ModelConfig | str = "lr"
    """Which model, and its own knobs: the name of one with its defaults, its configuration, or a
    table with `name` in files."""

    epochs: int = 5
    batch_size: int = 512
    """Examples of one step of one worker."""
    split: Literal["ranges", "steps"] = "ranges"
    """How workers share an epoch's order: each a range of it, or each a batch of every step, which
    together are what a lone worker with so large a batch would take."""
    first_batch_size: int | None = None
    """From how many examples on the first steps of a worker's first epoch, or of each pass over a
    stream, grow to `batch_size`, by doubling: at first everything is unknown, and what several
    workers find out at once is too much together. None: all steps are alike. Where logistic
    regression trains in place, serially, it changes nothing."""
    threads: int | None = None
    """Threads that a worker's network computes with: equal numbers give equal bits. None: all of
    this machine's cores in process, `cpus_per_worker` on Ray."""
    accumulate: int = 1
    """Batches of one step: their gradients are summed up before anything is stepped along."""
    lr_schedule: Schedule = field(default_factory=Constant)
    """Of the dense part's learning rate."""
    dense: Literal["group", "servers"] = "group"
    """Where the dense part is kept in step: its gradients are averaged over the worker group, in
    lock step, or it is a vector of the parameter server, to which each worker adds what its own
    optimizer does. Under BSP the mean of that is added; else all, whenever it comes."""
    seed: int = 0
    """Of initial values, shuffling and dropout."""

    transport: Literal["embedded", "ray"] = "embedded"
    """Everything in this process, or servers and workers as Ray actors."""
    num_shards: int = 1
    """Shards of the parameter server."""
    num_workers: int = 1
    """Workers that train side by side; embedded ones take turns."""
    min_workers: int | None = None
    """The fewest to go on with on Ray where there is not room for all; None: `num_workers`. The
    steps stay those of `num_workers`: fewer take more batches each; see `weiml.train.elastic`.
    Needs split = "steps", BSP and a dense part in the group."""
    max_workers: int | None = None
    """The most to take once there is room, likewise; looked for after each epoch."""
    staleness: int | Literal["asp"] | None = 0
    """Steps that a worker may be ahead of the slowest: 0 BSP, s SSP, "asp" or None no bound."""
    group: WorkerGroupConfig = field(default_factory=lambda: WorkerGroupConfig(verify=False))
    """Backend, placement, GPUs, network and compression of a worker group on Ray; its num_workers,
    cpus_per_worker and timeouts are the run's own."""
    wire: WireConfig = field(default_factory=WireConfig)
    """How rows and keys travel between workers and servers; exact by default."""

    early_stopping_patience: int = 1
    """Epochs without a better validation metric after which training stops; 0 never stops. The
    best epoch is kept either way."""
    early_stopping_metric: Literal["log_loss", "auc", "accuracy"] = "log_loss"
    """Of the validation set; accuracy is for models of classes, which have no AUC."""
    explosion: float = 20.0
    """Training stops when three steps in a row have a mean loss above this times the mean of those
    before; 0: only when a loss is not finite."""
    checkpoint_steps: int = 0
    """Steps between two checkpoints of a run that keeps some; 0: only at the ends of epochs."""
    keep_checkpoints: int = 2
    max_restarts: int = 3
    """How often a run on Ray goes on from its last checkpoint after workers or servers died."""
    progress_steps: int = 50
    """Steps between two progress reports and two points of the loss curve."""
    cpus_per_worker: float = 1
    """Ray's logical CPUs that a worker takes."""
    timeout_s: float = 120.0
    """For the start of workers and for each of their collectives."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", model_config(self.model))
        for knob in (
            "accumulate",
            "batch_size",
            "epochs",
            "keep_checkpoints",
            "num_shards",
            "num_workers",
            "progress_steps",
        ):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}")
        if self.first_batch_size is not None and self.first_batch_size < 1:
            raise ConfigError(f"first_batch_size must be at least 1, got {self.first_batch_size}")
        for knob in (
            "checkpoint_steps",
            "cpus_per_worker",
            "early_stopping_patience",
            "explosion",
            "max_restarts",
            "seed",
        ):
            if getattr(self, knob) < 0:
                raise ConfigError(f"{knob} must not be negative, got {getattr(self, knob)}")
        if isinstance(self.staleness, int) and self.staleness < 0:
            raise ConfigError(
                f"staleness must be 0 (BSP), a positive number (SSP) or 'asp', got {self.staleness}"
            )
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout_s must be above 0, got {self.timeout_s}")
        self._check_sizes()

    def _check_sizes(self) -> None:
        fewest, most = self.fewest_workers, self.most_workers
        if not 1 <= fewest <= self.num_workers <= most:
            raise ConfigError(
                "min_workers, num_workers and max_workers must ascend from 1, got "
                f"{fewest}, {self.num_workers}, {most}"
            )
        if not self.is_elastic:
            return
        if self.transport != "ray":
            raise ConfigError(
                "min_workers and max_workers are of runs on Ray, got transport = "
                f"{self.transport!r}; leave them out"
            )
        if self.split != "steps" or self.staleness != 0:
            raise ConfigError(
                "a gang of another size takes the same steps only with split = 'steps' and "
                f"staleness = 0 (BSP), got {self.split!r} and {self.staleness!r}"
            )
        if self.first_batch_size is not None or self.dense == "servers":
            raise ConfigError(
                "with min_workers or max_workers neither first_batch_size nor dense = 'servers' "
                f"can be had, which go by the worker; got {self.first_batch_size!r} and "
                f"{self.dense!r}"
            )
        if not model_class(self.model_config.name).has_dense:
            raise ConfigError(
                f"model {self.model_config.name!r} learns serially within each worker, so that "
                "another number of workers is another run; leave min_workers and max_workers out"
            )

    @property
    def model_config(self) -> ModelConfig:
        """`model`, whatever form it was given in."""
        assert isinstance(self.model, ModelConfig)
        return self.model

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change while it runs."""
        return self.fewest_workers < self.most_workers

    @property
    def fewest_workers(self) -> int:
        """`min_workers`, None made a number."""
        return self.num_workers if self.min_workers is None else self.min_workers

    @property
    def most_workers(self) -> int:
        """`max_workers`, None made a number."""
        return self.num_workers if self.max_workers is None else self.max_workers

    @property
    def threads_of_worker(self) -> int:
        """`threads`, None made a number."""
        if self.threads is not None:
            return self.threads
        if self.transport == "embedded":
            return len(os.sched_getaffinity(0))
        return max(1, int(self.cpus_per_worker))

    @property
    def staleness_bound(self) -> int | None:
        """`staleness` as the parameter server takes it."""
        return self.staleness if isinstance(self.staleness, int) else None
