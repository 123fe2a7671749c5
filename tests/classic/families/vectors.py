"""Distances to held vectors, by the loop that converters of neighbours write."""

import numpy as np
from onnx import helper
from support import Feed, constant, graph, tensor_info, untyped

from families.registry import CALM, ODD, Draw, Sample, declared, family


@family(2)
def distances(d: Draw) -> Sample:
    """A `Scan` over the held vectors; then, often, the nearest of them."""
    features, count = d.between(1, 4), d.between(1, 6)
    kind = d.one(["float32", "float32", "float64"])
    axes = constant("axes", np.array([1]))
    body_nodes = [helper.make_node("Identity", ["next_in"], ["next_out"]), helper.make_node("Sub", ["next_in", "next"], ["gap"])]
    manhattan = d.chance(0.4)
    if manhattan:
        body_nodes.append(helper.make_node("Abs", ["gap"], ["size"]))
        body_nodes.append(helper.make_node("ReduceSum", ["size", "axes"], ["total"], keepdims=0))
    else:
        body_nodes.append(helper.make_node("ReduceSumSquare", ["gap"], ["total"], axes=[1], keepdims=0))
    body_nodes.append(helper.make_node("Identity", ["total"], ["scan_out"]))
    body = helper.make_graph(
        body_nodes,
        "body",
        [tensor_info("next_in", kind, [None, features]), tensor_info("next", kind, [features])],
        [tensor_info("next_out", kind, None), tensor_info("scan_out", kind, None)],
        [axes] if manhattan else [],
    )
    nodes = [helper.make_node("Scan", ["X", "held"], ["same", "scanned"], body=body, num_scan_inputs=1)]
    nodes.append(helper.make_node("Transpose", ["scanned"], ["distance"], perm=[1, 0]))
    outputs, held = ["distance"], [constant("held", d.data(kind, (count, features), CALM))]
    if not manhattan and d.chance(0.5):
        nodes.append(helper.make_node("Sqrt", ["distance"], ["root"]))
        outputs = ["root"]
    if d.chance(0.6):
        nodes.append(helper.make_node("TopK", [outputs[0], "k"], ["near", "which"], axis=1, largest=0, sorted=1))
        held.append(constant("k", np.array([d.between(1, count)])))
        outputs = ["near", "which"]
    feeds: list[Feed] = [{"X": d.data(kind, (rows, features), ODD if d.chance(0.1) else CALM)} for rows in d.batches()]
    inputs = [tensor_info("X", kind, declared(d, [feed["X"] for feed in feeds]))]
    return Sample(graph(nodes, inputs, [untyped(each) for each in outputs], held), feeds)


@family()
def running_state(d: Draw) -> Sample:
    """A `Scan` whose state changes, over rows of the input, in either direction."""
    width = d.between(1, 3)
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "row"], ["next"]), helper.make_node("Mul", ["next", "row"], ["out"])],
        "body",
        [tensor_info("state", "float32", [width]), tensor_info("row", "float32", [width])],
        [tensor_info("next", "float32", [width]), tensor_info("out", "float32", [width])],
    )
    attributes = (
        {} if d.chance(0.5) else {"scan_input_directions": [d.between(0, 1)], "scan_output_directions": [d.between(0, 1)]}
    )
    nodes = [helper.make_node("Scan", ["start", "X"], ["end", "Y"], body=body, num_scan_inputs=1, **attributes)]
    feeds: list[Feed] = [{"X": d.floats((rows, width), level=CALM)} for rows in d.batches()]
    inputs = [tensor_info("X", "float32", [None, width])]
    held = [constant("start", d.floats((width,), level=CALM))]
    return Sample(graph(nodes, inputs, [untyped("end"), untyped("Y")], held), feeds)
