"""What the documentation shows works: Python blocks run, and commands exist.

Each ``python`` block of a page runs after the ones above it, in a folder of its own. A block that
is only to be read is opened with ``python no-run``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from weiml.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/models/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
    if not path.parts[len(ROOT.parts)].startswith(".")
)
FENCE = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "sh", "shell", "console"}


def blocks(page: Path, languages: set[str]) -> list[str]:
    """Return the fenced blocks whose info string's first word is one of `languages`."""
    found = []
    for info, body in FENCE.findall(page.read_text(encoding="utf-8")):
        words = info.split()
        if words and words[0] in languages and "no-run" not in words:
            found.append(body)
    return found


def commands(page: Path) -> list[list[str]]:
    """Return the commands of shell blocks as words; prompts, comments and variables stripped."""
    found = []
    for block in blocks(page, SHELLS):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.strip().removeprefix("$ ").strip()
            for part in re.split(r"\s*(?:&&|\|\||;)\s*", text):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    words = words[1:]
                if words:
                    found.append(words)
    return found


def identify(page: Path) -> str:
    return str(page.relative_to(ROOT))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def unknown_word(words: list[str]) -> str | None:
    """Return the first word of a ``weiml`` command that the command line does not know."""
    command: Any = typer.main.get_command(app)
    for word in words:
        options = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        if word.startswith("-"):
            if word.split("=")[0] not in {*options, "--help", "-h"}:
                return word
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return None


@pytest.mark.process
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, {"python"})], ids=identify)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "blocks.py"
    script.write_text("\n\n".join(blocks(page, {"python"})), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=identify)
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        shown = " ".join(words)
        if words[0] == "make":
            wanted = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert wanted <= make_targets(), f"{shown}: no such target"
        elif words[0] == "weiml":
            assert unknown_word(words[1:]) is None, f"{shown}: {unknown_word(words[1:])} is unknown"
        if "-m" in words and words[words.index("-m") - 1].startswith("python"):
            module = words[words.index("-m") + 1]
            if (ROOT / module.split(".")[0]).is_dir():
                path = ROOT.joinpath(*module.split("."))
                assert path.with_suffix(".py").exists() or path.is_dir(), f"{shown}: no module"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:|#", link):
                assert (page.parent / link.split("#")[0]).exists(), f"{identify(page)}: {link}"


def test_the_readme_has_a_python_block_and_the_two_commands() -> None:
    readme = ROOT / "README.md"
    assert blocks(readme, {"python"})
    assert {("make", "demo"), ("make", "test")} <= {tuple(c[:2]) for c in commands(readme)}


@pytest.mark.parametrize("line", ["train --bogus", "data lst", "flows run x"])
def test_the_check_of_commands_sees_misspellings(line: str) -> None:
    assert unknown_word(line.split()) is not None
