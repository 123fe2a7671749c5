"""Writes graphs whose structure is easily read wrongly, and ONNX Runtime's answers: names that bodies hide, functions,
references to attributes, leaves that vote more than once, lists that repeat, linear models of no features.

    python structures.py --out DIR
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from support import IR_VERSION, ML, MICROSOFT, Feed, Question, answers, constant, declare_all, graph, kind_of, tensor_info, text, untyped, write_cases

F32 = np.float32
ROWS = np.array([[-1, 2, 3], [4, -5, 6], [0, 1, -2], [7, 8, 9]], F32)
OWN = "own"


def infos(feed: Feed) -> list[onnx.ValueInfoProto]:
    return [tensor_info(name, kind_of(array), [None] * array.ndim) for name, array in feed.items()]


def plain(
    name: str, nodes: list[onnx.NodeProto], feed: Feed, initializers: tuple[onnx.TensorProto, ...] = (), **versions: int
) -> Question:
    """A graph whose only output is `Y`."""
    sets = {"": 17, ML: 1} | {{"ml": ML}.get(domain, domain): version for domain, version in versions.items()}
    return Question(name, graph(nodes, infos(feed), [untyped("Y")], initializers, sets), feed)


def votes() -> Iterator[Question]:
    """Leaves that vote several times for the same target, and for several."""
    splits = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
    }
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        for targets, ids in ((1, [0, 0, 0, 0]), (2, [0, 1, 1, 1]), (2, [1, 0, 0, 0])):
            node = helper.make_node(
                "TreeEnsembleRegressor",
                ["X"],
                ["Y"],
                domain=ML,
                n_targets=targets,
                aggregate_function=aggregate,
                target_treeids=[0, 0, 0, 0],
                target_nodeids=[1, 1, 2, 2],
                target_ids=ids,
                target_weights=[1.0, 10.0, 100.0, 1000.0],
                **splits,
            )
            yield plain(f"{aggregate} of {targets} targets, votes {ids}", [node], {"X": ROWS})


def scans() -> Iterator[Question]:
    """Bodies whose names are those of values outside, before or after they make their own."""
    data = constant("c", np.array([10, 20, 30], F32))
    state = tensor_info("state", "float32", None)
    item = tensor_info("item", "float32", None)
    bodies: dict[str, list[onnx.NodeProto]] = {
        "captures a constant": [helper.make_node("Add", ["item", "c"], ["made"])],
        "hides an outer name": [
            helper.make_node("Mul", ["item", "item"], ["hidden"]),
            helper.make_node("Add", ["hidden", "c"], ["made"]),
        ],
        "captures and makes the later": [
            helper.make_node("Add", ["item", "outer"], ["later"]),
            helper.make_node("Neg", ["later"], ["made"]),
        ],
    }
    for name, nodes in bodies.items():
        body = helper.make_graph(
            [*nodes, helper.make_node("Add", ["state", "made"], ["next"]), helper.make_node("Identity", ["next"], ["out"])],
            "body",
            [state, item],
            [tensor_info("next", "float32", None), tensor_info("out", "float32", None)],
        )
        outside = [
            helper.make_node("Add", ["X", "c"], ["outer_rows"]),
            helper.make_node("ReduceSum", ["outer_rows"], ["outer"], keepdims=0),
            helper.make_node("Scan", ["c", "X"], ["hidden", "later"], body=body, num_scan_inputs=1),
            helper.make_node("Add", ["hidden", "later"], ["Y"]),
        ]
        yield plain(f"Scan {name}", outside, {"X": ROWS}, (data,))


def model(name: str, nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto], feed: Feed) -> Question:
    """A graph of functions of its own."""
    proto = helper.make_graph(nodes, "g", infos(feed), [untyped("Y")])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid(OWN, 1)]
    made = helper.make_model(proto, opset_imports=sets, functions=functions, ir_version=IR_VERSION)
    return Question(name, made.SerializeToString(), feed)


def function(
    name: str, inputs: list[str], nodes: list[onnx.NodeProto], attributes: tuple[str, ...] = (), overload: str = ""
) -> onnx.FunctionProto:
    sets = [helper.make_opsetid("", 17), helper.make_opsetid(OWN, 1)]
    made = helper.make_function(OWN, name, inputs, ["out"], nodes, sets, list(attributes))
    if overload:
        made.overload = overload
    return made


def referring(op: str, inputs: list[str], outputs: list[str], attribute: str, kind: int) -> onnx.NodeProto:
    """A node whose attribute is that of the function around it."""
    node = helper.make_node(op, inputs, outputs)
    given = node.attribute.add()
    given.name, given.ref_attr_name, given.type = attribute, attribute, kind
    return node


def functions() -> Iterator[Question]:
    """Functions that call others, share names with their caller, or hand on attributes."""
    double = function("Double", ["v"], [helper.make_node("Add", ["v", "v"], ["out"])])
    twice = function(
        "Twice", ["v"], [helper.make_node("Double", ["v"], ["w"], domain=OWN), helper.make_node("Double", ["w"], ["out"], domain=OWN)]
    )
    yield model("functions that call functions", [helper.make_node("Twice", ["X"], ["Y"], domain=OWN)], [double, twice], {"X": ROWS})
    shadow = function("Shadow", ["Y"], [helper.make_node("Neg", ["Y"], ["X"]), helper.make_node("Abs", ["X"], ["out"])])
    nodes = [helper.make_node("Shadow", ["X"], ["w"], domain=OWN), helper.make_node("Sub", ["w", "X"], ["Y"])]
    yield model("a function with the names of its caller", nodes, [shadow], {"X": ROWS})
    soft = function("Soft", ["v"], [referring("Softmax", ["v"], ["out"], "axis", onnx.AttributeProto.INT)], ("axis",))
    for axis in (0, 1):
        yield model(f"an attribute by reference, axis {axis}", [helper.make_node("Soft", ["X"], ["Y"], domain=OWN, axis=axis)], [soft], {"X": ROWS})
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "item"], ["next"]),
            referring("Softmax", ["next"], ["out_item"], "axis", onnx.AttributeProto.INT),
        ],
        "body",
        [tensor_info("state", "float32", None), tensor_info("item", "float32", None)],
        [tensor_info("next", "float32", None), tensor_info("out_item", "float32", None)],
    )
    inside = function(
        "Inside",
        ["v"],
        [
            helper.make_node("ReduceMax", ["v"], ["start"], axes=[0], keepdims=0),
            helper.make_node("Scan", ["start", "v"], ["last", "out"], body=body, num_scan_inputs=1),
        ],
        ("axis",),
    )
    yield model("an attribute by reference in a body", [helper.make_node("Inside", ["X"], ["Y"], domain=OWN, axis=0)], [inside], {"X": ROWS})
    variants = [
        function("Pick", ["v"], [helper.make_node("Neg", ["v"], ["out"])], overload="negative"),
        function("Pick", ["v"], [helper.make_node("Abs", ["v"], ["out"])], overload="positive"),
    ]
    for overload in ("negative", "positive"):
        node = helper.make_node("Pick", ["X"], ["Y"], domain=OWN, overload=overload)
        asked = model(f"the function of the overload `{overload}`", [node], variants, {"X": ROWS})
        proto = onnx.load_from_string(asked.model)
        # Overloads came with this version.
        proto.ir_version = 10
        yield Question(asked.name, proto.SerializeToString(), asked.inputs)


def lists() -> Iterator[Question]:
    """Axes that repeat, and sizes that multiply."""
    cube = np.arange(24, dtype=F32).reshape(2, 3, 4)
    for op in ("ReduceSum", "ReduceMean", "ReduceMax"):
        for axes in ([1, 1], [0, -3], [-1, 2, 1]):
            given = (constant("axes", np.array(axes, np.int64)),) if op == "ReduceSum" else ()
            inputs = ["X", "axes"] if given else ["X"]
            attributes = {} if given else {"axes": axes}
            node = helper.make_node(op, inputs, ["Y"], **attributes)
            yield plain(f"{op} of axes {axes}", [node], {"X": cube}, given)
    for repeats in ([2, 1, 1], [0, 3, 1], [1 << 40, 1 << 40, 0]):
        node = helper.make_node("Tile", ["X", "repeats"], ["Y"])
        yield plain(f"Tile {repeats}", [node], {"X": cube}, (constant("repeats", np.array(repeats, np.int64)),))


def linear() -> Iterator[Question]:
    """Models without features, and rows that have some."""
    for width in (0, 2):
        feed = {"X": np.ones((3, width), F32)}
        node = helper.make_node("LinearRegressor", ["X"], ["Y"], domain=ML, intercepts=[0.5], targets=1)
        node.attribute.append(onnx.AttributeProto(name="coefficients", type=onnx.AttributeProto.FLOATS))
        yield plain(f"LinearRegressor of no features, rows of {width}", [node], feed)


def tokenizers() -> Iterator[Question]:
    """Expressions whose matches differ between the engines of regular expressions, and those that do not."""
    feed = {"X": text([["foo bar-baz  a1b22c", "ab aab"], ["", "xx,yy"]])}
    for pattern in (r"\w+", r"[a-z]+", r"a|ab", r"a+?", r"(ab|a)b", r"\b\w\w+\b", r"[0-9]{1,2}"):
        node = helper.make_node("Tokenizer", ["X"], ["Y"], domain=MICROSOFT, mark=0, mincharnum=1, pad_value="#", tokenexp=pattern)
        yield plain(f"Tokenizer of `{pattern}`", [node], feed)
    for separators in ([" "], ["-", " "], [""], ["a|ab"]):
        node = helper.make_node("Tokenizer", ["X"], ["Y"], domain=MICROSOFT, mark=0, mincharnum=1, pad_value="#", separators=separators)
        yield plain(f"Tokenizer between {separators}", [node], feed)


GROUPS: tuple[Callable[[], Iterator[Question]], ...] = (votes, scans, functions, lists, linear, tokenizers)


def main() -> int:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    asked = [question for group in GROUPS for question in group()]
    for number, question in enumerate(asked):
        question.file = f"{number}.onnx"
        (out / question.file).write_bytes(question.model)
    cases = [case for case in answers(asked) if case is not None]
    declare_all(out, cases)
    write_cases(out / "cases.json", cases)
    fates = [case.get("stage", "answered") for case in cases]
    print(f"{len(cases)} of {len(asked)} graphs: {dict((fate, fates.count(fate)) for fate in sorted(set(fates)))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
