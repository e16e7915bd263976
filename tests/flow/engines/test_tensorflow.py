from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from tests.flow.conftest import Run
from weiml.errors import FlowError
from weiml.flow import FlowBuilder, StepContext, step

installed = importlib.util.find_spec("tensorflow") is not None


@step("test.keras_fit")
def keras_fit(context: StepContext, *, units: int) -> object:
    import keras
    import numpy as np

    context.progress("fit", 0, 1)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    x = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    losses = model.fit(x, x.sum(1, keepdims=True), epochs=3, verbose=0).history["loss"]
    context.report("losses", losses)
    context.report("pid", os.getpid())
    return model


@step("test.keras_save")
def keras_save(context: StepContext, model: object) -> None:
    model.save(context.output_dir / "model.keras")  # type: ignore[attr-defined]
    context.report("saved", True)


@step("test.keras_fail")
def keras_fail(context: StepContext, model: object) -> None:
    raise KeyError("nothing here")


def flow_of(last: str) -> FlowBuilder:
    flow = FlowBuilder("f", seed=3)
    flow.node("keras", engine="tensorflow").process("fit", "test.keras_fit", units=1).output(
        "model", last, dependency="fit"
    )
    return flow


@pytest.mark.usefixtures("ray_session")
@pytest.mark.skipif(not installed, reason="needs the extra tensorflow")
def test_steps_run_in_a_process_of_their_own(run: Run) -> None:
    result, recorder = run(flow_of("test.keras_save").build())
    reports = result.reports["keras"]
    assert reports["losses"][0] > reports["losses"][-1]
    assert reports["saved"]
    assert (result.artifact("keras.model") / "model.keras").is_file()
    assert "fit" in recorder.texts
    assert "tensorflow" not in sys.modules
    assert reports["pid"] != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(reports["pid"], 0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
@pytest.mark.skipif(not installed, reason="needs the extra tensorflow")
def test_a_failure_there_is_told_here(run: Run) -> None:
    with pytest.raises(FlowError, match=r"step 'model' .* failed: KeyError: 'nothing here'"):
        run(flow_of("test.keras_fail").build())


def test_without_tensorflow_the_error_says_how_to_get_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "weiml.flow.engines.tensorflow.importlib.util.find_spec",
        lambda name, *rest: None if name == "tensorflow" else find(name, *rest),
    )
    with pytest.raises(FlowError, match=r'pip install "weiml\[tensorflow\]"'):
        run(flow_of("test.keras_save").build())
