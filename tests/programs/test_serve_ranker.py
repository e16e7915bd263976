"""serve/ranker.py: one question to two models, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from serve import ranker
from weiml.data import (
    BatchDataset,
    FeatureView,
    HistoryState,
    Profiles,
    SyntheticConfig,
    generate_feed,
    write_batches,
)
from weiml.features import Categorical, FeatureEncoder, FeatureSpec, SparseBinary
from weiml.serving.engine import free_port
from weiml.train import TrainConfig, Trainer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, a and b, and a view."""
    folder = tmp_path_factory.mktemp("saved")
    raw = generate_feed(SyntheticConfig(events=800, users=20, items=30))
    view = FeatureView(
        Profiles(raw["users"], "user_id"), Profiles(raw["items"], "item_id"), HistoryState()
    )
    table = view.examples(raw["ratings"])
    label = pc.greater_equal(table["rating"], 4.0).cast(pa.float32())
    table = table.append_column("label", label)
    view.save(folder / "view")
    spec = FeatureSpec(
        features=(Categorical("user_id"), Categorical("item_id"), SparseBinary("genres"))
    )
    encoder = FeatureEncoder(spec).fit(table)
    write_batches([encoder.encode(table)], folder / "train", encoder=encoder)
    for name, seed in (("a", 1), ("b", 2)):
        config = TrainConfig(model="lr", epochs=1, seed=seed)
        Trainer(config).fit(BatchDataset.open(folder / "train")).save(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_ask_compares_the_models(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ranker", f"a={saved / 'a'}", f"b={saved / 'b'}", "--view", str(saved / "view")]
    command += ["--ask", "7", "--top-k", "3", "--set", f"port={free_port()}"]
    monkeypatch.setattr("sys.argv", command)
    ranker.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("a (")
    assert " b (" in lines[0]
    scores = [float(line.split()[0]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=/nowhere"], "error: models.a = '/nowhere' is not a folder"),
        (["model"], "error: models are given as NAME=FOLDER, got model"),
        (["a=x", "--set", "prot=1"], "unknown key 'prot'; did you mean 'port'"),
        (["--nothing"], "error: No such option: --nothing"),
    ],
)
def test_mistakes_are_one_line(
    saved: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["ranker", *arguments, "--view", str(saved / "view")])
    with pytest.raises(SystemExit) as ended:
        ranker.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
