"""Scan, If and Loop within rows."""

import numpy as np
from onnx import helper

from blocks.registry import safe
from graphs import Builder, tensor_input
from kinds import branch, open_float


@safe(since=11)
def if_constant(g):
    x = g.rows()
    chosen = g.const(g.maybe(), np.bool_)
    g.op("If", chosen, then_branch=branch(g, x, "Relu"), else_branch=branch(g, x, "Neg"))


@safe(since=11)
def loop_few_times(g):
    x = g.rows()
    inner = Builder(g.opset, prefix=f"{g.fresh()}_")
    state = inner.op("Add", "state", x)
    goes_on = inner.op("Identity", "goes_on")
    inputs = [tensor_input("step", np.int64, ()), tensor_input("goes_on", np.bool_, ()), open_float("state")]
    outputs = [tensor_input(goes_on, np.bool_, ()), open_float(state)]
    body = helper.make_graph(inner.nodes, "body", inputs, outputs, inner.constants)
    g.op("Loop", g.int(g.number(1, 3)), "", x, body=body)


@safe(since=11)
def scan_over_steps(g):
    """A running sum over the steps of each row."""
    x = g.rows(rank=3)
    inner = Builder(g.opset, prefix=f"{g.fresh()}_")
    state = inner.op("Tanh", inner.op("Add", "state", "step"))
    seen = inner.op("Identity", state)
    body = helper.make_graph(
        inner.nodes, "body", [open_float("state"), open_float("step")], [open_float(state), open_float(seen)]
    )
    start = g.op("Mul", g.op("Gather", x, g.int(0), axis=1), g.const(0))
    axes = {"scan_input_axes": [1], "scan_output_axes": [1]}
    g.op("Scan", start, x, outputs=2, body=body, num_scan_inputs=1, **axes)


@safe(since=11)
def scan_over_rows(g):
    """Works on each row by itself, with the table of neighbours as a state that stays."""
    x = g.rows(rank=2)
    inner = Builder(g.opset, prefix=f"{g.fresh()}_")
    table = inner.op("Identity", "table")
    gap = inner.op("Sub", "table", "row")
    distance = inner.reduce("SumSquare", gap, [1], keep=False)
    body = helper.make_graph(
        inner.nodes,
        "body",
        [open_float("table"), open_float("row")],
        [open_float(table), open_float(distance)],
        inner.constants,
    )
    g.op("Scan", g.weight(5, g.sizes(x)[0]), x, outputs=2, body=body, num_scan_inputs=1)
