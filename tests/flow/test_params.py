from __future__ import annotations

import pytest

from weiml.errors import FlowError
from weiml.flow import FlowBuilder
from weiml.flow.params import resolve_params


def flow_with(text: str) -> FlowBuilder:
    flow = FlowBuilder("f").param("trials", 8).param("name", "x")
    flow.node("a", engine="torch", threads=text).process("s", "c", value=text)
    return flow


def test_values_replace_defaults_in_steps_and_options() -> None:
    flow = resolve_params(flow_with("n=${trials}/${name}").build(), {"trials": 4})
    assert flow.nodes[0].steps[0].params[0].text == "n=4/x"
    assert flow.nodes[0].options[0].text == "n=4/x"
    assert {param.name: param.text for param in flow.params} == {"trials": "4", "name": "x"}


def test_a_doubled_dollar_stands_for_itself() -> None:
    flow = resolve_params(flow_with("$${trials} $5 ${trials}").build())
    assert flow.nodes[0].steps[0].params[0].text == "${trials} $5 8"


def test_a_parameter_that_the_flow_has_not_is_an_error() -> None:
    with pytest.raises(FlowError, match=r"no parameter 'trails'; did you mean 'trials'"):
        resolve_params(flow_with("x").build(), {"trails": 4})


def test_a_place_without_parameter_is_an_error_with_its_line() -> None:
    with pytest.raises(FlowError, match=r"test_params.py:\d+: \$\{trial\} is not .* 'trials'"):
        resolve_params(flow_with("${trial}").build())
