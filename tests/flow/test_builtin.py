from __future__ import annotations

import pytest

from tests.flow.conftest import Run
from weiml.errors import FlowError
from weiml.flow import FlowBuilder


def test_programs_read_upstream_outputs_and_write_their_own(run: Run) -> None:
    flow = FlowBuilder("f").param("word", "two words")
    flow.node("a", engine="shell").output(
        "out", "shell.run", command='sh -c \'echo "${word}" > "$1/x"\' sh {output_dir}'
    )
    node = flow.node("b", engine="shell", preid="a").input("a", "artifact", dependency="a.out")
    node.process("text", "shell.run", dependency="a", command="cat {input0}/x")
    node.output("copy", "test.write", dependency="text")
    result, _ = run(flow.build())
    assert (result.artifact("b.copy") / "value.txt").read_text() == "two words\n"


@pytest.mark.parametrize(
    ("engine", "command", "message"),
    [
        ("python", "true", "needs engine=\"shell\", node 'a' has 'python'"),
        ("shell", " ", "has an empty command"),
        ("shell", "sh -c 'x", "is not quoted well"),
        ("shell", "no-such-program-here x", "program 'no-such-program-here' cannot be run"),
        ("shell", "sh -c 'echo oops >&2; exit 3'", "ended with status 3; .*\noops"),
        ("shell", "sh -c 'kill -9 $$'", "was ended by SIGKILL; its stderr is empty"),
    ],
)
def test_programs_that_fail_say_how(engine: str, command: str, message: str, run: Run) -> None:
    flow = FlowBuilder("f")
    flow.node("a", engine=engine).process("s", "shell.run", command=command)
    with pytest.raises(FlowError, match=message):
        run(flow.build())
