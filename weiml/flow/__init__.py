"""WeiFlow: flows of nodes on engines, cached and committed node by node."""

from __future__ import annotations

from weiml.flow.binding import bind_flow, load_flow
from weiml.flow.builder import FlowBuilder
from weiml.flow.builtin import artifact, shell_run
from weiml.flow.context import NodeContext, RunScope, StepContext
from weiml.flow.engines import Engine, connect_ray, list_engines, register_engine
from weiml.flow.graph import Flow, Node, Param, Position, Step, StepKind
from weiml.flow.json_form import from_json, to_json
from weiml.flow.ledger import State
from weiml.flow.progress import Reporter
from weiml.flow.result import FlowResult, NodeResult, load_result
from weiml.flow.runner import run_flow
from weiml.flow.steps import list_steps, step
from weiml.flow.xml import from_xml, to_xml

__all__ = [
    "Engine",
    "Flow",
    "FlowBuilder",
    "FlowResult",
    "Node",
    "NodeContext",
    "NodeResult",
    "Param",
    "Position",
    "Reporter",
    "RunScope",
    "State",
    "Step",
    "StepContext",
    "StepKind",
    "artifact",
    "bind_flow",
    "connect_ray",
    "from_json",
    "from_xml",
    "list_engines",
    "list_steps",
    "load_flow",
    "load_result",
    "register_engine",
    "run_flow",
    "shell_run",
    "step",
    "to_json",
    "to_xml",
]
