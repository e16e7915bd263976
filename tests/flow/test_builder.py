from __future__ import annotations

import pytest

from weiml.errors import FlowError
from weiml.flow import FlowBuilder, from_xml


def test_the_builder_makes_what_xml_says() -> None:
    built = FlowBuilder("f", steps=["m"], seed=3).param("n", 2)
    built.node("a", engine="torch", threads=1, timeout_s=5).input("x", "c", n="${n}", off=None)
    built.node("b", preid=["a"], cache=False).output("y", "d", dependency="x2,x3", on=True).process(
        "x2", "e"
    ).process("x3", "e", columns=["p", "q"])
    assert built.build() == from_xml(
        """<flow name="f" steps="m" seed="3"><param name="n" value="2"/>
        <node id="a" engine="torch" timeout_s="5"><option name="threads">1</option>
          <input name="x" class="c"><n>${n}</n></input></node>
        <node id="b" engine="python" preid="a" cache="false">
          <output name="y" class="d" dependency="x2,x3"><on>true</on></output>
          <process name="x2" class="e"/>
          <process name="x3" class="e"><columns>p</columns><columns>q</columns></process></node>
        </flow>"""
    )


def test_errors_name_the_line_of_the_program() -> None:
    built = FlowBuilder("f")
    built.node("a").process("x", "c", dependency="nothing")
    with pytest.raises(FlowError, match=r"test_builder.py:\d+: step 'x'"):
        built.build()
