"""Step classes that every flow has: ``artifact`` and ``shell.run``."""

from __future__ import annotations

import shlex
from typing import Any

from weiml.errors import FlowError
from weiml.flow.context import StepContext
from weiml.flow.engines.shell import ShellSession
from weiml.flow.steps import step

__all__ = ["artifact", "shell_run"]


@step("artifact")
def artifact(context: StepContext, value: Any) -> Any:
    """Pass on a dependency, to give an upstream output a name in this node."""
    return value


@step("shell.run")
def shell_run(context: StepContext, *values: Any, command: str) -> str:
    """Run a program on the engine ``shell`` and return what it prints.

    Args:
        context: of a node whose engine is ``shell``.
        values: `{input0}`, `{input1}`, … in the command stand for the dependencies' values.
        command: program and arguments, quoted as for a shell but not run by one; `{output_dir}`
            stands for the folder of an output step.

    Raises:
        FlowError: the program cannot be run or fails.
    """
    if not isinstance(context.session, ShellSession):
        raise FlowError(
            f"{context.step.position}: step class 'shell.run' needs engine=\"shell\", node "
            f"{context.node.id!r} has {context.node.engine!r}"
        )
    places = {f"{{input{i}}}": str(value) for i, value in enumerate(values)}
    if context.folder is not None:
        places["{output_dir}"] = str(context.folder)
    argv = []
    for word in _split(command, context):
        for place, text in places.items():
            word = word.replace(place, text)
        argv.append(word)
    if not argv:
        raise FlowError(f"{context.step.position}: step {context.step.name!r} has an empty command")
    return context.session.run(argv)


def _split(command: str, context: StepContext) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise FlowError(
            f"{context.step.position}: the command of step {context.step.name!r} is not quoted "
            f"well ({error}): {command}"
        ) from None
