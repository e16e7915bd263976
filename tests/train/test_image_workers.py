"""Data-parallel training of a network is training: W workers with batches of B are one with W · B.

That needs the same examples in each step (`split="steps"`), norms without statistics over a batch,
and nothing drawn (dropout, moves); then the loss curves differ by rounding only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.data import BatchDataset, write_batches
from weiml.group import Group, LocalGroup
from weiml.models import CNNConfig, Columns, ResNetConfig
from weiml.models.checks import example_images
from weiml.models.image import ImageConfig
from weiml.ps import EmbeddedParameterServer
from weiml.train import TrainConfig, Trainer
from weiml.train import worker as work
from weiml.train.worker import WorkerSpec

# Adam's first steps are ±lr for gradients of any size, so that rounding shows; those of sgd not.
FORM: dict[str, Any] = {"height": 8, "width": 8, "classes": ("a", "b", "c"), "optimizer": "sgd"}
CNN = CNNConfig(**FORM, lr=0.1, widths=(4, 8), kernel=3, hidden=(16,), dropout=0)
RESNET = ResNetConfig(**FORM, lr=0.1, stem_width=4, blocks=(1, 1), norm="group")
STEPS, EPOCHS = 12, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "set"
    # The last step of an epoch is a smaller one, which they share out too.
    batch = example_images(CNN, 32 * STEPS - 12)
    write_batches([batch], folder, packed=True, examples_per_part=100)
    return folder


def curve(
    group: Group, config: ImageConfig, folder: Path, batch_size: int, split: Any = "steps"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each step of some epochs, over all workers, and the dense vector."""
    source = BatchDataset.open(folder, split=split)
    with EmbeddedParameterServer(1, group.num_workers) as server:
        spec = WorkerSpec(
            model_config=config,
            columns=Columns(slots=source.slots, dense_names=source.dense_names),
            seed=3,
            batch_size=batch_size,
            source=source,
            server=server,
        )
        group.execute(work.start_worker, spec)
        losses = []
        for epoch in range(EPOCHS):
            group.execute(work.start_epoch, epoch)
            while (steps := group.run(work.run_steps, 1))[0].steps:
                losses.append(sum(r.loss for r in steps) / sum(r.weight for r in steps))
        part = group.execute(work.dense_part)[0]
        group.execute(work.finish)
    return np.array(losses), part[0]


@pytest.mark.parametrize("config", [CNN, RESNET], ids=["cnn", "resnet"])
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_together_learn_like_one_with_all_their_examples(
    images: Path, config: ImageConfig, workers: int
) -> None:
    alone, one = curve(LocalGroup(1), config, images, 32)
    shared, many = curve(LocalGroup(workers), config, images, 32 // workers)
    assert len(alone) == STEPS * EPOCHS
    assert alone[-3:].mean() < 0.9 * alone[:3].mean()
    np.testing.assert_allclose(shared, alone, atol=1e-5)
    np.testing.assert_allclose(many, one, atol=1e-5)


def test_it_is_what_it_rests_on(images: Path) -> None:
    """Other examples in a step, statistics of a batch and dropout each change the curve."""
    alone, _ = curve(LocalGroup(1), CNN, images, 32)
    ranges, _ = curve(LocalGroup(2), CNN, images, 16, "ranges")
    assert np.abs(ranges - alone).max() > 1e-3
    for config in (replace(CNN, norm="batch"), replace(CNN, dropout=0.2), replace(CNN, shift=1)):
        alone, _ = curve(LocalGroup(1), config, images, 32)
        shared, _ = curve(LocalGroup(2), config, images, 16)
        assert np.abs(shared - alone).max() > 1e-3, config


def test_actors_that_average_over_gloo_give_the_bits_of_this_process(
    images: Path, ray_session: None
) -> None:
    settings: dict[str, Any] = {"model": CNN, "epochs": 1, "batch_size": 32, "num_workers": 2}
    dataset = BatchDataset.open(images)
    here = Trainer(TrainConfig(**settings, threads=1)).fit(dataset)
    there = Trainer(TrainConfig(**settings, transport="ray", cpus_per_worker=0)).fit(dataset)
    assert here.history[-1]["train_loss"] == there.history[-1]["train_loss"]
    assert here.version == there.version
