from __future__ import annotations

import numpy as np
import pytest

from tests.flow.conftest import Run
from weiml.errors import FlowError
from weiml.flow import FlowBuilder, StepContext, step


@step("test.train")
def train(context: StepContext, *, fails: bool = False) -> None:
    from weiml.ps import SGD, TableConfig, list_groups

    server = context.session.parameter_server(num_shards=1)
    other = context.session.parameter_server(num_shards=1)
    server.create_table(TableConfig(name="t", dim=1, optimizer=SGD(lr=1.0)))
    client = server.client()
    keys = np.array([1, 2], dtype=np.uint64)
    client.wait(client.push("t", keys, np.ones((2, 1), dtype=np.float32)))
    context.report("weights", client.wait(client.pull("t", keys)))
    context.report("groups", sorted(list_groups()))
    del other
    if fails:
        raise RuntimeError("after the servers were made")


def flow_of(**params: object) -> FlowBuilder:
    flow = FlowBuilder("f")
    flow.node("train", engine="ps").process("s", "test.train", **params)  # type: ignore[arg-type]
    return flow


@pytest.mark.usefixtures("ray_session")
def test_parameter_servers_end_with_their_node(run: Run) -> None:
    from weiml.ps import list_groups

    result, _ = run(flow_of().build())
    assert result.reports["train"]["weights"] == [[-1.0], [-1.0]]
    assert set(result.reports["train"]["groups"]) >= {"f-train-1", "f-train-2"}
    assert not [name for name in list_groups() if name.startswith("f-train")]


@pytest.mark.usefixtures("ray_session")
def test_parameter_servers_end_when_a_step_fails(run: Run) -> None:
    from weiml.ps import list_groups

    with pytest.raises(FlowError, match="after the servers were made"):
        run(flow_of(fails=True).build())
    assert not [name for name in list_groups() if name.startswith("f-train")]
