"""The registry: versions, aliases, and that half a version is never seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from weiml.errors import RegistryError
from weiml.serving.registry import ModelRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    return ModelRegistry(tmp_path_factory.mktemp("a registry"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tables").mkdir(parents=True)
    (folder / "model.json").write_text('{"model": "lr"}')
    (folder / "tables" / "wide.arrow").write_bytes(b"\x00\x01")
    return folder


def test_a_version_is_a_full_copy(registry: ModelRegistry, model: Path) -> None:
    version = registry.register(
        "copy", model, {"auc": 0.75, "ndcg@10": 0.5}, params={"lr": 0.1}, tags={"data": "test"}
    )
    (model / "model.json").write_text("changed afterwards")
    assert version.version == 1
    assert version.metrics == {"auc": 0.75, "ndcg_10": 0.5}
    assert version.params == {"lr": "0.1"}
    assert version.tags == {"data": "test"}
    assert (version.folder / "model.json").read_text() == '{"model": "lr"}'
    assert (version.folder / "tables" / "wide.arrow").read_bytes() == b"\x00\x01"
    assert ModelRegistry(registry.uri).get("copy").folder == version.folder


def test_versions_count_up_and_aliases_move(registry: ModelRegistry, model: Path) -> None:
    first = registry.register("moves", model, alias="champion")
    second = registry.register("moves", model, tags={"note": "better"})
    assert [v.version for v in registry.versions("moves")] == [1, 2]
    assert registry.get("moves", "champion").version == 1
    assert registry.get("moves").version == registry.get("moves", "2").version == 2
    registry.set_alias("moves", "champion", 2)
    assert registry.get("moves", "champion").folder == second.folder != first.folder
    assert registry.get("moves", 1).aliases == ()


def test_a_failed_copy_leaves_no_version(
    registry: ModelRegistry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register("fails", model, alias="champion")

    def disk_full(run_id: str, folder: str, path: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(registry._client, "log_artifacts", disk_full)
    with pytest.raises(OSError, match="No space left"):
        registry.register("fails", model, alias="champion")
    monkeypatch.undo()
    assert [v.version for v in registry.versions("fails")] == [1]


def test_an_interrupted_version_is_not_visible(
    registry: ModelRegistry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register("halves", model, alias="champion")

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry._client, "set_model_version_tag", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.register("halves", model, alias="champion")
    monkeypatch.undo()
    assert [v.version for v in registry.versions("halves")] == [1]
    assert registry.get("halves", "champion").version == 1
    with pytest.raises(RegistryError, match="no version or alias '2'"):
        registry.set_alias("halves", "champion", 2)
    assert registry.register("halves", model).version == 3


def test_a_damaged_copy_is_refused(
    registry: ModelRegistry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = registry._client.log_artifacts

    def truncating(run_id: str, folder: str, path: str) -> None:
        copy(run_id, folder, path)
        (copied,) = (registry.folder / "artifacts" / run_id).rglob("model.json")
        copied.write_text("")

    monkeypatch.setattr(registry._client, "log_artifacts", truncating)
    with pytest.raises(RegistryError, match="differs"):
        registry.register("damaged", model)
    monkeypatch.undo()
    assert "damaged" not in registry.models()


def test_errors_name_what_is_near(registry: ModelRegistry, model: Path, tmp_path: Path) -> None:
    registry.register("ranker", model, alias="champion")
    with pytest.raises(RegistryError, match="no model 'rankr'.*did you mean 'ranker'"):
        registry.get("rankr")
    with pytest.raises(RegistryError, match="'champoin'; did you mean 'champion'"):
        registry.get("ranker", "champoin")
    with pytest.raises(RegistryError, match="no model in folder"):
        registry.register("ranker", tmp_path / "missing")
    with pytest.raises(RegistryError, match="none of /"):
        registry.register("a/b", model)
    for alias in ("latest", "7", ""):
        with pytest.raises(RegistryError, match="an alias must be a word"):
            registry.set_alias("ranker", alias, 1)
    with pytest.raises(RegistryError, match="folder or sqlite"):
        ModelRegistry("postgresql://host/db")


def test_reading_makes_no_registry(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="typo is not a model registry: it has no mlflow.db"):
        ModelRegistry(tmp_path / "typo", create=False)
    assert not (tmp_path / "typo").exists()


@pytest.mark.slow
def test_mlflow_is_imported_by_the_registry_alone_and_says_nothing(tmp_path: Path) -> None:
    code = (
        "import logging, sys, weiml.serving\n"
        "assert 'mlflow' not in sys.modules\n"
        "weiml.serving.ModelRegistry(sys.argv[1])\n"
        "logging.getLogger('mlflow.store').error('shown')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith("shown")
