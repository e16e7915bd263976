from __future__ import annotations

from tests.flow.conftest import Run
from weiml.flow import FlowBuilder, StepContext, step


@step("test.torch_state")
def torch_state(context: StepContext) -> None:
    import torch

    context.report("threads", torch.get_num_threads())
    context.report("draw", torch.rand(3))


def test_threads_and_seed_are_set_for_the_node(run: Run) -> None:
    import torch

    before = torch.get_num_threads()
    flow = FlowBuilder("f", seed=11)
    flow.node("a", engine="torch", threads=1).process("s", "test.torch_state")
    flow.node("b", engine="torch", threads=1, seed=12).process("s", "test.torch_state")
    flow.node("c", engine="torch").process("s", "test.torch_state")
    reports = run(flow.build())[0].reports
    assert reports["a"]["threads"] == 1
    assert reports["a"]["draw"] == reports["c"]["draw"] != reports["b"]["draw"]
    torch.manual_seed(11)
    assert reports["a"]["draw"] == torch.rand(3).tolist()
    assert torch.get_num_threads() == before
