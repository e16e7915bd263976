"""A model whose network is a graph scores as the torch model that it was exported of."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.models import DENSE_VECTOR, Predictor, model_config, save_model
from weiml.models.checks import example_batch, trained
from weiml.models.onnx import OnnxModel, export_network, export_onnx
from weiml.ps import Cut, Delta

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

HISTORY = {"sequences": ["history"], "targets": ["item"], "max_length": 4, "hidden": [8]}
TASKS = {"tasks": ["click", "buy"], "main_task": "buy", "tower": [8]}
SMALL: dict[str, dict[str, Any]] = {
    "bst": HISTORY,
    "dien": HISTORY,
    "esmm": TASKS,
    "fm": {"embedding_dim": 4},
    "max_norm_dnn": {"embedding_dim": 8, "hidden": [8]},
    "wide_deep": {"hidden": [16, 8], "batch_norm": True, "loss": {"name": "focal"}},
}


def saved(name: str, folder: Path) -> Path:
    """Train and save a model."""
    config = model_config({"name": name, "init_scale": 0.3, **SMALL[name]})
    made = trained(config, [example_batch(64, seed, values=True) for seed in range(3)])
    save_model(folder, made.model, made.server)
    return folder


@pytest.mark.parametrize("name", sorted(SMALL))
def test_scores_equal_torchs(name: str, tmp_path: Path) -> None:
    source = saved(name, tmp_path / "torch")
    exported = export_onnx(source, tmp_path / "onnx")
    torch, onnx = Predictor.load(source), Predictor.load(tmp_path / "onnx")
    assert isinstance(onnx.model, OnnxModel)
    assert onnx.sequence == torch.sequence == exported.sequence
    assert (onnx.model.tasks, onnx.model.main_task) == (torch.model.tasks, torch.model.main_task)
    for size, values in ((1, True), (50, True), (7, False)):
        batch = example_batch(size, 8, values=values)
        expected = torch.score_tasks(batch)
        np.testing.assert_allclose(onnx.score_tasks(batch), expected, atol=1e-5)
        np.testing.assert_allclose(onnx.score(batch), torch.score(batch), atol=1e-5)
    assert onnx.score(example_batch(3).slice(0, 0)).shape == (0,)


def test_rows_follow_deltas_and_the_network_does_not(tmp_path: Path) -> None:
    export_onnx(saved("wide_deep", tmp_path / "torch"), tmp_path / "onnx")
    predictor = Predictor.load(tmp_path / "onnx")
    batch = example_batch(4)
    before = predictor.score(batch)
    keys = np.unique(batch.keys)
    rows = {"linear": (keys, np.full((len(keys), 1), 3, np.float32))}
    delta = Delta(since=Cut((1,)), cut=Cut((9,)), tables=rows, vectors={})
    predictor.apply_delta(delta)
    assert (predictor.score(batch) > before).all()
    assert predictor.sequence == 9
    with pytest.raises(DataError, match="the graph of model 'onnx' is fixed"):
        predictor.apply_delta(replace(delta, vectors={DENSE_VECTOR: np.zeros(5, np.float32)}))


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    export_onnx(saved("fm", tmp_path / "torch"), tmp_path / "onnx")
    file = tmp_path / "onnx" / "dense.safetensors"
    file.write_bytes(file.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(DataError, match="is damaged"):
        Predictor.load(tmp_path / "onnx")


def test_what_cannot_be_exported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained(model_config("lr"), [example_batch(8)])
    save_model(tmp_path / "lr", made.model, made.server)
    with pytest.raises(ConfigError, match="only models with a torch network .* not 'lr'"):
        export_onnx(tmp_path / "lr", tmp_path / "onnx")
    model: Any = Predictor.load(saved("wide_deep", tmp_path / "torch")).model
    logits = type(model)._logits
    monkeypatch.setattr(type(model), "_logits", lambda self, arrays: logits(self, arrays) + 1)
    with pytest.raises(ConfigError, match="differs from torch by 1"):
        export_network(model, tmp_path / "a.onnx")
    monkeypatch.undo()
    assert export_network(model, tmp_path / "a.onnx").is_file()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "weiml.models.onnx.tracing.importlib.util.find_spec",
        lambda name, *rest: None if name == "onnx" else find(name, *rest),
    )
    with pytest.raises(ConfigError, match=r'pip install "weiml\[onnx\]"'):
        export_network(model, tmp_path / "b.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "lr", "torch"]
