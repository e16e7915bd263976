from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from weiml.data.datasets.download import download, pip_download, rich_progress, verify_sha256
from weiml.errors import FetchError

CONTENT = b"0123456789" * 40_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file.bin")
            self.end_headers()
        elif self.path in ("/file.bin", "/cut.bin"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/file.bin" else CONTENT[:1000])
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["file.bin", "moved"])
def test_downloads_a_file_and_tells_how_far_it_is(host: str, path: str, tmp_path: Path) -> None:
    seen: list[tuple[str, float | None, float | None]] = []
    target = download(
        f"{host}/{path}",
        tmp_path / "file.bin",
        sha256=DIGEST,
        progress=lambda *told: seen.append(told),
    )
    assert target.read_bytes() == CONTENT
    assert len(seen) > 1
    assert seen[-1] == (f"download {path}", float(len(CONTENT)), float(len(CONTENT)))


def test_a_damaged_download_names_file_and_digests_and_leaves_nothing(
    host: str, tmp_path: Path
) -> None:
    with pytest.raises(FetchError) as caught:
        download(f"{host}/file.bin", tmp_path / "file.bin", sha256="ab" * 32)
    for part in ("file.bin", "ab" * 32, DIGEST, host):
        assert part in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("path", "said"), [("none.bin", "404"), ("cut.bin", "could not be read")])
def test_a_failed_download_says_why_and_leaves_nothing(
    host: str, tmp_path: Path, path: str, said: str
) -> None:
    with pytest.raises(FetchError, match=said):
        download(f"{host}/{path}", tmp_path / "file.bin", sha256=DIGEST)
    assert not list(tmp_path.iterdir())


def test_a_host_that_is_not_there_is_a_fetch_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:9/.*ConnectError"):
        download("http://127.0.0.1:9/x", tmp_path / "x", sha256=DIGEST, timeout_s=5)


def test_the_earlier_file_survives_a_damaged_download(host: str, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"good")
    with pytest.raises(FetchError):
        download(f"{host}/file.bin", target, sha256="ab" * 32)
    assert target.read_bytes() == b"good"


def test_verify_accepts_the_right_digest(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    verify_sha256(path, DIGEST)
    path.write_bytes(CONTENT[1:])
    with pytest.raises(FetchError, match=DIGEST):
        verify_sha256(path, DIGEST)


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, data in files.items():
            wheel.writestr(inner, data)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def offline_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def test_pip_brings_one_wheel(offline_pip: Path, tmp_path: Path) -> None:
    write_wheel(offline_pip, "weimltoy", "1.0", {"weimltoy/data.txt": b"hello"})
    target = tmp_path / "target"
    path = pip_download("weimltoy==1.0", target)
    assert path.parent == target
    assert zipfile.ZipFile(path).read("weimltoy/data.txt") == b"hello"


def test_pip_that_finds_nothing_is_a_fetch_error(offline_pip: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"weimltoy==1\.0.*No matching distribution"):
        pip_download("weimltoy==1.0", tmp_path / "target")


def test_pip_that_takes_too_long_names_the_knob(offline_pip: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"timeout_s=0\.01"):
        pip_download("weimltoy==1.0", tmp_path / "target", timeout_s=0.01)


def test_progress_bars_take_known_and_unknown_totals() -> None:
    with rich_progress() as show:
        show("a", 1, 2)
        show("a", 2, 2)
        show("b", None, None)
