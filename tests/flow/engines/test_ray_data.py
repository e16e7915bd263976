from __future__ import annotations

import io
import logging

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


@step("test.chatter")
def chatter(context: StepContext) -> None:
    import ray
    from ray.util.debug import reset_log_once

    (console,) = (h for h in logging.getLogger("ray.data").handlers if h.name == "console")
    assert isinstance(console, logging.StreamHandler)
    shown = io.StringIO()
    before = console.setStream(shown)
    reset_log_once("ray_data_progress_manager_disabled")  # said once a process
    ray.data.range(8).map(lambda row: row).materialize()
    log = logging.getLogger("ray.data.dataset")
    log.warning("The Ray cluster currently does not have any available CPUs.")
    log.warning("a warning")
    log.error("an error")
    console.setStream(before)
    context.report("lines", shown.getvalue().splitlines())


@pytest.mark.usefixtures("ray_session")
def test_ray_data_keeps_its_notes_to_its_log(run: Run) -> None:
    flow = FlowBuilder("f")
    flow.node("a", engine="ray_data").process("s", "test.chatter")
    lines = run(flow.build())[0].reports["a"]["lines"]
    assert [line.rpartition("-- ")[2] for line in lines] == ["a warning", "an error"]
