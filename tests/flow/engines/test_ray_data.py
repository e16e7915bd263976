from __future__ import annotations

import pytest

from tests.flow.conftest import Run
from weiml.flow import FlowBuilder, StepContext, step


@step("test.blocks")
def blocks(context: StepContext) -> None:
    import ray
    from ray.data import DataContext

    current = DataContext.get_current()
    assert not current.enable_progress_bars
    assert current.execution_options.preserve_order
    data = ray.data.range(1200, override_num_blocks=context.session.num_blocks)
    rows = data.map_batches(lambda batch: {"id": batch["id"] * 2}).take_all()
    context.report("first", [row["id"] for row in rows[:3]])
    context.report("blocks", data.materialize().num_blocks())
    context.report("shuffle", current.default_hash_shuffle_parallelism)
    context.report("cpus", context.session.num_cpus)


@pytest.mark.usefixtures("ray_session")
def test_ray_data_is_sized_for_the_machine_and_put_back(run: Run) -> None:
    import ray
    from ray.data import DataContext

    before = DataContext.get_current()
    flow = FlowBuilder("f")
    flow.node("a", engine="ray_data").process("s", "test.blocks")
    flow.node("b", engine="ray_data", num_blocks=3).process("s", "test.blocks")
    reports = run(flow.build())[0].reports
    assert reports["a"] == {"first": [0, 2, 4], "blocks": 4, "shuffle": 4, "cpus": 2}
    assert reports["b"]["blocks"] == reports["b"]["shuffle"] == 3
    assert DataContext.get_current() is before
    assert ray.is_initialized()  # a Ray that was there is left alone
