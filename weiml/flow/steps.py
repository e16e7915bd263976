"""The registry of step classes, and the loading of the modules that fill it.

A step class is a function ``fn(context, *values, **params)``: `values` are those of the step's
dependencies in order, `params` its parameters, converted by the function's annotations.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from weiml.config import nearest
from weiml.errors import FlowError, WeimlError
from weiml.flow.graph import Position, Step
from weiml.flow.signature import annotation_of, convert, type_name

__all__ = [
    "StepFunction",
    "find_step",
    "is_main",
    "list_steps",
    "load_step_modules",
    "module_file",
    "step",
]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class StepFunction:
    """A registered step class."""

    name: str
    function: Callable[..., Any]

    @property
    def module(self) -> str:
        """The module's name, also when it runs as ``__main__``."""
        return _true_name(self.function.__module__)

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def bind(self, step: Step) -> dict[str, Any]:
        """Convert the step's parameters to the function's types.

        Raises:
            FlowError: a parameter is unknown, missing or does not fit, or the number of
                dependencies does; the message starts with file and line.
        """
        where = f"{step.position}: step {step.name!r} (class {self.name!r})"
        accepted, rest = self._accepted(len(step.dependencies), where)
        bound: dict[str, Any] = {}
        for param in step.params:
            parameter = accepted.get(param.name, rest)
            if parameter is None:
                known = nearest(param.name, accepted)
                raise FlowError(
                    f"{param.position}: step {step.name!r} (class {self.name!r}) has no "
                    f"parameter {param.name!r}{known}"
                )
            place = f"{param.position}: parameter {param.name!r} of step {step.name!r}"
            bound[param.name] = self._convert(parameter, param.values, place)
        for name, parameter in accepted.items():
            if parameter.default is inspect.Parameter.empty and name not in bound:
                kind = type_name(annotation_of(self.function, parameter))
                raise FlowError(
                    f"{where} needs the parameter {name!r} ({kind}); add <{name}>…</{name}>, or a "
                    "dependency if it is one"
                )
        return bound

    def _accepted(
        self, num_values: int, where: str
    ) -> tuple[dict[str, inspect.Parameter], inspect.Parameter | None]:
        """Split off what the context and the dependencies fill; the rest are parameters."""
        parameters = list(inspect.signature(self.function).parameters.values())
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        room = len(positional) - 1
        if num_values > room and not takes_any:
            names = ", ".join(p.name for p in positional[1:]) or "none"
            raise FlowError(
                f"{where} takes at most {room} dependencies ({names}), got {num_values}"
            )
        left = positional[1 + num_values :] + [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        rest = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
        return {p.name: p for p in left}, rest

    def _convert(self, parameter: inspect.Parameter, values: tuple[str, ...], place: str) -> Any:
        hint = annotation_of(self.function, parameter)
        try:
            return convert(values, hint)
        except (ValueError, TypeError) as error:
            raise FlowError(f"{place} {error}") from None


_STEPS: dict[str, StepFunction] = {}


def step(name: str) -> Callable[[F], F]:
    """Register a function as the step class `name`, such as ``"feed.examples"``.

    Raises:
        FlowError: another function has the name; defining the same function again (a module
            reloaded, a notebook cell run twice) replaces it.
    """

    def register(function: F) -> F:
        known = _STEPS.get(name)
        if known is not None and _origin(known.function) != _origin(function):
            raise FlowError(
                f"step class {name!r} is already {known.function.__module__}."
                f"{known.function.__qualname__}; give {function.__module__}."
                f"{function.__qualname__} another name"
            )
        if not list(inspect.signature(function).parameters):
            raise FlowError(f"step class {name!r} must take the context as its first argument")
        _STEPS[name] = StepFunction(name=name, function=function)
        return function

    return register


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    return _true_name(function.__module__), function.__qualname__


def find_step(name: str, position: Position | None = None) -> StepFunction:
    """Return the step class `name`; FlowError naming the nearest one when there is none."""
    if name not in _STEPS:
        raise FlowError(
            f"{position or Position()}: unknown step class {name!r}{nearest(name, _STEPS)}; is the "
            'module that registers it listed in the flow\'s steps="…"?'
        )
    return _STEPS[name]


def list_steps() -> dict[str, StepFunction]:
    """All registered step classes by name."""
    return dict(sorted(_STEPS.items()))


def load_step_modules(modules: tuple[str, ...], position: Position | None = None) -> None:
    """Import the modules that a flow names, so that they register their steps and engines.

    A module that is running as ``__main__`` is not imported a second time: its functions are
    registered already, and two copies would not be the same functions.

    Raises:
        FlowError: a module is not there, or fails when imported.
    """
    where = position or Position()
    for name in modules:
        if name in sys.modules or is_main(name):
            continue
        try:
            importlib.import_module(name)
        except WeimlError:
            raise
        except Exception as error:
            missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
            if missing and (name + ".").startswith(f"{missing}."):
                raise FlowError(
                    f'{where}: there is no module {name!r} (named in steps="…"); run from the '
                    "folder that holds it, or install it"
                ) from None
            raise FlowError(
                f'{where}: module {name!r} (named in steps="…") cannot be imported: '
                f"{type(error).__name__}: {error}"
            ) from error


def module_file(name: str) -> Path | None:
    """The source file of a step module, also of the one that runs as ``__main__``."""
    module = sys.modules.get("__main__" if is_main(name) else name)
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file)


_main_alias: str | None = None


def is_main(name: str) -> bool:
    """Whether ``__main__`` is the module `name`, started by ``python -m`` or by path."""
    global _main_alias
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__") == name
    file = getattr(main, "__file__", None)
    parts = tuple(name.split("."))
    if file is None or Path(file).resolve().with_suffix("").parts[-len(parts) :] != parts:
        return False
    _main_alias = name
    return True


def _true_name(module: str) -> str:
    """The name under which a module would be imported, if it runs as ``__main__``."""
    if module != "__main__":
        return module
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = str(spec.name).removesuffix(".__main__") if spec is not None else _main_alias
    return name or module
