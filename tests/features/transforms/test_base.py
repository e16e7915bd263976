"""Saving is whole or not at all; fitted forms are compared by what they hold."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from weiml.features.transforms import Fitted, MinMax, load_fitted


def fitted(high: float) -> Fitted:
    return MinMax("x").fit(pa.table({"x": [0.0, high]}))


def test_writing_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fitted.json"
    fitted(1.0).save(path)
    whole = Path.write_text

    def breaks_off(self: Path, data: str, *args: object, **options: object) -> int:
        whole(self, data[: len(data) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", breaks_off)
    with pytest.raises(OSError, match="no space"):
        fitted(2.0).save(path)
    assert load_fitted(path) == fitted(1.0)
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_appears_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fitted.json"
    fitted(1.0).save(path)
    seen = []
    whole = Path.write_text

    def looks(self: Path, data: str, *args: object, **options: object) -> int:
        written = whole(self, data)
        seen.append(load_fitted(path))
        return written

    monkeypatch.setattr(Path, "write_text", looks)
    fitted(2.0).save(path)
    assert seen == [fitted(1.0)]
    assert load_fitted(path) == fitted(2.0)


def test_equal_means_equal_in_all() -> None:
    assert fitted(1.0) == fitted(1.0)
    assert fitted(1.0) != fitted(2.0)
    assert hash(fitted(1.0)) == hash(fitted(1.0))
    assert fitted(1.0) != MinMax("x", clip=True).fit(pa.table({"x": [0.0, 1.0]}))
    assert fitted(1.0) != "something else"
