"""A model whose network is an ONNX graph is served as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.models.onnx import export_onnx
from weiml.serving import Servable

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


def test_it_scores_as_the_model_that_it_was_exported_of(feed: Any, tmp_path: Path) -> None:
    export_onnx(feed.models["wide_deep"], tmp_path / "onnx")
    models = {"torch": feed.models["wide_deep"], "onnx": str(tmp_path / "onnx")}
    servable = Servable.load(models, feed.view)
    user = feed.test["user_id"][0].as_py()
    items = sorted(set(feed.test["item_id"].to_pylist()))[:20]
    torch, onnx = (servable.score(name, user, items, 10**9) for name in ("torch", "onnx"))
    np.testing.assert_allclose(onnx.scores, torch.scores, atol=1e-5)
    assert onnx.scores.std() > 0
    assert onnx.version.partition(".")[2] == torch.version.partition(".")[2]
    ranked = servable.rank("onnx", user, items, 10**9, top_k=3)
    assert ranked.scores[0] == onnx.scores.max()
