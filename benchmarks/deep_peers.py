"""Wide & Deep by others on the same examples, each as its own documentation would have it.

Each is a contestant: called, it passes over its training examples once; `log_loss` scores others.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.deep_data import DENSE, IDS, SLOTS, Examples
from weiml.models import log_loss

__all__ = ["BATCH", "DIM", "HIDDEN", "DeepCTR", "PlainTorch", "TorchRec"]

BATCH = 4096
DIM = 16
HIDDEN = (256, 128, 64)


def _mlp(num_inputs: int) -> nn.Sequential:
    sizes = (num_inputs, *HIDDEN)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))


class PlainTorch:
    """A careful loop: one fused sparse embedding of 1 + 16 columns, sparse Adagrad, Adam.

    Examples are slices of tensors in memory; half precision is autocast's.
    """

    def __init__(self, examples: Examples, *, half: bool, lr: float = 0.02) -> None:
        torch.manual_seed(0)
        self._half = half
        self._ids = torch.from_numpy(examples.places)
        self._dense = torch.from_numpy(examples.dense)
        self._labels = torch.from_numpy(examples.labels)
        self._rows = nn.Embedding(SLOTS * IDS, 1 + DIM, sparse=True)
        nn.init.normal_(self._rows.weight, std=0.01)
        self._mlp = _mlp(SLOTS * DIM + DENSE)
        self._adam = torch.optim.Adam(self._mlp.parameters(), 1e-3)
        self._adagrad = torch.optim.Adagrad(self._rows.parameters(), lr=lr)

    def _logits(self, ids: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        rows = self._rows(ids)
        x = torch.cat([rows[:, :, 1:].reshape(len(ids), -1), dense], 1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._half):
            deep = self._mlp(x)
        return torch.as_tensor(deep.float().squeeze(1) + rows[:, :, 0].sum(1))

    def __call__(self) -> None:
        """Pass over the examples once."""
        for start in range(0, len(self._labels) - BATCH + 1, BATCH):
            part = slice(start, start + BATCH)
            logits = self._logits(self._ids[part], self._dense[part])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, self._labels[part])
            self._adam.zero_grad(set_to_none=True)
            self._adagrad.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self._adam.step()
            self._adagrad.step()

    def log_loss(self, examples: Examples) -> float:
        """Score examples."""
        with torch.inference_mode():
            logits = self._logits(
                torch.from_numpy(examples.places), torch.from_numpy(examples.dense)
            )
            return log_loss(examples.labels, torch.sigmoid(logits).numpy())


class DeepCTR:
    """DeepCTR-Torch's WDL by its own `fit`, on arrays, as in its examples."""

    def __init__(self, examples: Examples) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            inputs = importlib.import_module("deepctr_torch.inputs")
            models = importlib.import_module("deepctr_torch.models")
        sparse = [
            inputs.SparseFeat(f"c{slot}", vocabulary_size=IDS, embedding_dim=DIM)
            for slot in range(SLOTS)
        ]
        columns = [*sparse, *(inputs.DenseFeat(f"i{column}", 1) for column in range(DENSE))]
        self._examples = examples
        self._model = models.WDL(columns, columns, dnn_hidden_units=HIDDEN, seed=0)
        self._model.compile("adagrad", "binary_crossentropy", metrics=[])

    def _inputs(self, examples: Examples) -> dict[str, np.ndarray]:
        columns = {f"c{slot}": examples.ids[:, slot] for slot in range(SLOTS)}
        return columns | {f"i{column}": examples.dense[:, column] for column in range(DENSE)}

    def __call__(self) -> None:
        """Pass over the examples once."""
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            self._model.fit(
                self._inputs(self._examples), self._examples.labels, BATCH, epochs=1, verbose=0
            )

    def log_loss(self, examples: Examples) -> float:
        """Score examples."""
        scores = self._model.predict(self._inputs(examples), 8192)
        return log_loss(examples.labels, np.asarray(scores, np.float32).reshape(-1))


class TorchRec:
    """FBGEMM's fused table batches, TorchRec's backend on CPUs: the backward pass updates rows.

    One table of 1 + 16 columns a slot, exact row-wise Adagrad fused into the lookup's gradient.
    """

    def __init__(self, examples: Examples, *, half: bool, lr: float = 0.02) -> None:
        ops: Any = importlib.import_module("fbgemm_gpu.split_table_batched_embeddings_ops_training")
        configs: Any = importlib.import_module("fbgemm_gpu.split_embedding_configs")
        torch.manual_seed(0)
        self._half = half
        self._ids = torch.from_numpy(examples.ids)
        self._dense = torch.from_numpy(examples.dense)
        self._labels = torch.from_numpy(examples.labels)
        host, cpu = ops.EmbeddingLocation.HOST, ops.ComputeDevice.CPU
        self._rows = ops.SplitTableBatchedEmbeddingBagsCodegen(
            # FBGEMM wants rows of a multiple of four numbers: one more table column block.
            [(IDS, DIM + 4, host, cpu)] * SLOTS,
            optimizer=configs.EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=lr,
            eps=1e-8,
        )
        self._rows.init_embedding_weights_uniform(-0.01, 0.01)
        self._mlp = _mlp(SLOTS * DIM + DENSE)
        self._adam = torch.optim.Adam(self._mlp.parameters(), 1e-3)

    def _logits(self, ids: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        offsets = torch.arange(ids.numel() + 1)
        rows = self._rows(ids.T.reshape(-1).contiguous(), offsets).view(len(ids), SLOTS, DIM + 4)
        x = torch.cat([rows[:, :, 4:].reshape(len(ids), -1), dense], 1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._half):
            deep = self._mlp(x)
        return torch.as_tensor(deep.float().squeeze(1) + rows[:, :, 0].sum(1))

    def __call__(self) -> None:
        """Pass over the examples once."""
        for start in range(0, len(self._labels) - BATCH + 1, BATCH):
            part = slice(start, start + BATCH)
            logits = self._logits(self._ids[part], self._dense[part])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, self._labels[part])
            self._adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self._adam.step()

    def log_loss(self, examples: Examples) -> float:
        """Score examples."""
        with torch.no_grad():  # its lookup counts, which inference tensors refuse
            logits = self._logits(torch.from_numpy(examples.ids), torch.from_numpy(examples.dense))
            return log_loss(examples.labels, torch.sigmoid(logits).numpy())
