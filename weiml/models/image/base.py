"""Models of images: what all of them have in common but their network.

    scores = softmax(network(image)),    loss = - Σ_b weight_b log scores_b[label_b]

They have no tables: the network is all there is, and its gradients are averaged over the examples
of all workers. An image stands in a batch's dense columns (row by row, channels innermost), its
label is its class's number. Classes are the tasks: a score is the probability of each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.base import Columns, Rows, StepResult
from weiml.models.deep.network import Network, draws_of, make_network, torch_threads
from weiml.models.deep.network_model import NetworkModel
from weiml.models.fetch import Fetch, Prepared
from weiml.models.image.config import ImageConfig
from weiml.models.image.pixels import draw_moves, images_of
from weiml.ps import Client, TableConfig

__all__ = ["ImageModel"]


class ImageModel(NetworkModel):
    """A torch network over images. Subclasses build the network.

    Raises:
        ConfigError: the batches' dense columns are not the pixels of the configuration's images, or
            there are slots, which nothing would read.
    """

    config_class: ClassVar[type[ImageConfig]] = ImageConfig
    config: ImageConfig
    scores_kind = "classes"
    network: Network

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        self._check_columns()
        self._generator = draws_of(self.seed, self.rank)
        self.network = make_network(
            lambda: self.build(self._generator),
            self._generator,
            self.config,
            seed=self.seed,
            threads=self.threads,
            device=self.device,
        )

    @abstractmethod
    def build(self, generator: torch.Generator) -> nn.Module:
        """Return the network: a module that maps images (B, C, H, W) to logits (B, K).

        Its parameters are drawn from torch's own generator, which is seeded; what it draws in
        training, from `generator`.
        """

    @property
    def tasks(self) -> tuple[str, ...]:
        """See `Model.tasks`: the names of the K classes."""
        return self.config.classes

    def tables(self) -> tuple[TableConfig, ...]:
        """See `Model.tables`: none."""
        return ()

    def keys(self, batch: Batch) -> Mapping[str, np.ndarray]:
        """See `Model.keys`: none."""
        return {}

    def logits(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.logits`: float32 (B, K), whose softmax the scores are."""
        return np.asarray(self._infer(batch).cpu().numpy())

    def scores(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.scores`: float32 (B, K), which sum to 1 over the classes."""
        return np.asarray(torch.softmax(self._infer(batch), 1).cpu().numpy())

    def prepare(self, batch: Batch) -> Prepared:
        """See `Model.prepare`."""
        self.check(batch)
        return Prepared(batch, {})

    def compute(self, client: Client, fetch: Fetch) -> StepResult:
        """See `Model.compute`.

        Raises:
            DataError: a label is no class's number.
        """
        batch = fetch.prepared.batch
        labels, weights = self._labels(batch)
        total = float(batch.weights.sum(dtype=np.float64))
        with self.stages.timed("compute"), torch_threads(self.threads):
            images = self._images(batch, self._generator if total > 0 else None)
            logits = self._forward(images, training=total > 0)
            loss, gradients = _softmax_losses(logits.detach(), labels, weights)
            torch.autograd.backward([logits], [gradients])
        self._weight += total
        return StepResult(len(batch), total, loss)

    def push(self, client: Client, *, missed_by: Fetch | None = None) -> None:
        """See `Model.push`: there is nothing to send."""

    def _infer(self, batch: Batch) -> torch.Tensor:
        self.check(batch)
        with torch_threads(self.threads), torch.inference_mode():
            return self._forward(self._images(batch, None), training=False)

    def _images(self, batch: Batch, generator: torch.Generator | None) -> torch.Tensor:
        """Return (B, C, H, W), channels innermost in memory."""
        moves = draw_moves(self.config, len(batch), generator)
        images = torch.from_numpy(images_of(batch.dense, self.config, moves))
        return images.to(self.device).permute(0, 3, 1, 2)

    def _forward(self, images: torch.Tensor, *, training: bool) -> torch.Tensor:
        # Of 8 bits, the two best classes often have equal scores: scores are float32's.
        with self.network.computing(training=training, exact=torch.is_inference_mode_enabled()):
            logits: torch.Tensor = self.network.module(images)
        return logits.float()

    def _labels(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class numbers int64 (B,) and weights float32 (B,), 0 where a label is NaN."""
        given = batch.labels[:, 0]
        known = ~np.isnan(given)
        labels = np.where(known, given, 0)
        count = len(self.config.classes)
        wrong = ~((labels >= 0) & (labels < count) & (labels == np.floor(labels)))
        if batch.labels.shape[1] != 1 or wrong.any():
            got = batch.labels[wrong][:1].tolist() or f"labels {batch.labels.shape}"
            raise DataError(
                f"model {self.name!r} has {count} classes {self.config.classes}: a label is one "
                f"whole number from 0 to {count - 1}, got {got}; set classes, or mend the labels"
            )
        weights = np.where(known, batch.weights, 0).astype(np.float32)
        to = self.device
        return torch.from_numpy(labels.astype(np.int64)).to(to), torch.from_numpy(weights).to(to)

    def _check_columns(self) -> None:
        config, columns = self.config, self.columns
        if len(columns.dense_names) != config.num_pixels:
            raise ConfigError(
                f"model {self.name!r} reads images of height = {config.height}, width = "
                f"{config.width} and channels = {config.channels}: {config.num_pixels} dense "
                f"columns, the batches have {len(columns.dense_names)}"
            )
        if columns.slots:
            raise ConfigError(
                f"model {self.name!r} reads images only, the batches have slots {columns.slots}"
            )


def _softmax_losses(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Return (sum of weighted losses, its gradients by the logits: weight · (share - 1[label]))."""
    log_shares = torch.log_softmax(logits, 1)
    places = labels[:, None]
    total = float((weights * log_shares.gather(1, places).squeeze(1)).sum(dtype=torch.float64))
    gradients = log_shares.exp()
    gradients.scatter_add_(1, places, torch.full_like(places, -1, dtype=gradients.dtype))
    return abs(total), gradients * weights[:, None]
