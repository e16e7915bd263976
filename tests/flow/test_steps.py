from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weiml.errors import FlowError
from weiml.flow.context import StepContext
from weiml.flow.graph import Param, Position, Step, StepKind
from weiml.flow.steps import find_step, is_main, list_steps, load_step_modules, module_file, step


def make_step(cls: str, *dependencies: str, **params: object) -> Step:
    at = Position(source="f.xml", line=7)
    return Step(
        name="s",
        kind=StepKind.PROCESS,
        cls=cls,
        dependencies=dependencies,
        params=tuple(Param.of(k, v, Position(source="f.xml", line=8)) for k, v in params.items()),
        position=at,
    )


@step("test.fit")
def fit(context: StepContext, data: object, *, epochs: int, rate: float = 0.1) -> None:
    """Fit a model.

    More text.
    """


@step("test.loose")
def loose(context: StepContext, dataset: str, **rest: int) -> None:
    """Has a parameter that is not keyword-only, and takes any other."""


def test_parameters_are_converted() -> None:
    bound = find_step("test.fit").bind(make_step("test.fit", "data", epochs="3", rate=1))
    assert bound == {"epochs": 3, "rate": 1.0}


def test_positional_parameters_beyond_the_dependencies_are_parameters() -> None:
    bound = find_step("test.loose").bind(make_step("test.loose", dataset="x", other="4"))
    assert bound == {"dataset": "x", "other": 4}


def test_the_registry_lists_summaries() -> None:
    assert list_steps()["test.fit"].summary == "Fit a model."


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (make_step("test.fit", "d", epochs="x"), r"f.xml:8: parameter 'epochs' .* whole number"),
        (make_step("test.fit", "d", epoch=1), r"f.xml:8: .*'epoch'; did you mean 'epochs'"),
        (make_step("test.fit", "d"), r"f.xml:7: .* needs the parameter 'epochs' \(int\)"),
        (make_step("test.fit", "a", "b", epochs=1), r"f.xml:7: .* at most 1 dependencies \(data\)"),
        (make_step("test.fit", epochs=1), r"f.xml:7: .* needs the parameter 'data'"),
    ],
)
def test_errors_have_file_and_line(spec: Step, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        find_step(spec.cls).bind(spec)


def test_an_unknown_class_is_named_with_the_nearest() -> None:
    with pytest.raises(FlowError, match=r"f.xml:3: unknown step class 'test.fti'; did you mean"):
        find_step("test.fti", Position(source="f.xml", line=3))


def test_a_name_belongs_to_one_function() -> None:
    with pytest.raises(FlowError, match="'test.fit' is already"):

        @step("test.fit")
        def other(context: StepContext) -> None:
            """Another function."""

    with pytest.raises(FlowError, match="must take the context"):
        step("test.nothing")(lambda: None)


def test_modules_are_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "steps_of_test_steps"
    (tmp_path / f"{name}.py").write_text(
        "from weiml.flow import step\n\n@step('test.imported')\ndef f(context): pass\n"
    )
    load_step_modules((name, name))
    assert find_step("test.imported").module == name
    assert module_file(name) == tmp_path / f"{name}.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no module 'broken_steps'"),
        ("import nothing_like_this", "cannot be imported: ModuleNotFoundError"),
        ("def", "cannot be imported: SyntaxError"),
    ],
)
def test_modules_that_do_not_import_are_errors(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    if text is not None:
        (tmp_path / "broken_steps.py").write_text(text)
    with pytest.raises(FlowError, match=rf"f.xml:1: .*{message}"):
        load_step_modules(("broken_steps",), Position(source="f.xml", line=1))


def test_the_running_program_is_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spec: Any = SimpleNamespace(name="pipelines.feed")
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    assert is_main("pipelines.feed")
    assert not is_main("pipelines")
    by_path = SimpleNamespace(__spec__=None, __file__="/x/pipelines/feed.py")
    monkeypatch.setitem(sys.modules, "__main__", by_path)
    assert is_main("pipelines.feed")
    assert is_main("feed")
    assert not is_main("other.feed")
