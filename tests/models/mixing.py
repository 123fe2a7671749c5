"""Makes models whose rows depend on each other, or on their number or position: `tests/models/mixing/NAME.onnx`.

Run with Python 3 that has `onnx`: `python tests/models/mixing.py`. The files are committed; run this again only to change
them. Each takes `x` (FP32, `[N, 4]`), and some `i` (INT64, `[N]`), and gives `y` (FP32, `[N, 4]`). A chain of products
makes a run long enough that requests queue up behind it, as they do behind real models.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).parent / "mixing"
WIDTH, LAYERS = 256, 6
node = helper.make_node


def constant(name, value, dtype=np.int64):
    return numpy_helper.from_array(np.array(value, dtype), name)


def filled(name, shape, value):
    """A matrix of one number, which takes no room in the file."""
    fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
    return [
        node("Constant", [], [f"{name}_shape"], value=helper.make_tensor("shape", TensorProto.INT64, [2], shape)),
        node("ConstantOfShape", [f"{name}_shape"], [name], value=fill),
    ]


def work():
    """Nodes from `x` to `slow`, `[N, 4]`: the mean of each row, over and over."""
    nodes = filled("weights_in", [4, WIDTH], 1 / 4) + filled("weights_between", [WIDTH, WIDTH], 1 / WIDTH)
    nodes += filled("weights_out", [WIDTH, 4], 1 / WIDTH)
    nodes.append(node("MatMul", ["x", "weights_in"], ["h0"]))
    for layer in range(LAYERS):
        nodes.append(node("MatMul", [f"h{layer}", "weights_between"], [f"h{layer + 1}"]))
    nodes.append(node("MatMul", [f"h{LAYERS}", "weights_out"], ["slow"]))
    return nodes


def save(name, nodes, initializers=(), rows="x"):
    """`nodes` lead from `x` (and `i`) to `mixed`."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])]
    if any("i" in n.input for n in nodes):
        inputs.append(helper.make_tensor_value_info("i", TensorProto.INT64, ["N"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
    both = [*work(), *nodes, node("Add", ["slow", "mixed"], ["y"])]
    graph = helper.make_graph(both, name, inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="onstage tests")
    onnx.checker.check_model(model, full_check=True)
    (OUT / f"{name}.onnx").write_bytes(model.SerializeToString())


def main():
    OUT.mkdir(exist_ok=True)
    zero = constant("zero", [0])
    save("mean", [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["mixed"])])
    save("max", [node("ReduceMax", ["x"], ["m"], axes=[0]), node("Div", ["x", "m"], ["mixed"])])
    save("cumsum", [node("CumSum", ["x", "axis"], ["mixed"])], [constant("axis", 0)])
    save("pick", [node("Gather", ["x", "i"], ["mixed"], axis=0)])
    save(
        "dynamically_quantized",
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("DequantizeLinear", ["q", "s", "z"], ["mixed"]),
        ],
    )
    save("length", [node("ReduceL2", ["x"], ["m"], axes=[0]), node("Div", ["x", "m"], ["mixed"])])
    save("softmax", [node("Softmax", ["x"], ["mixed"], axis=0)])
    save("sorted", [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "zero", "one"], ["n"]),
        node("TopK", ["x", "n"], ["mixed", "places"], axis=0),
    ], [zero, constant("one", [1])])
    save("reversed", [node("Slice", ["x", "from", "to", "zero", "step"], ["mixed"])], [
        constant("from", [-1]), constant("to", [-(2**31)]), zero, constant("step", [-1]),
    ])
    save("rolled", [
        node("Slice", ["x", "one", "end", "zero"], ["tail"]),
        node("Slice", ["x", "zero", "one", "zero"], ["head"]),
        node("Concat", ["tail", "head"], ["mixed"], axis=0),
    ], [zero, constant("one", [1]), constant("end", [2**31 - 1])])
    save("counted", [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["n"], axis=0),
        node("Cast", ["n"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["x", "float"], ["mixed"]),
    ], [constant("first", 0)])
    save("numbered", [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["n"], axis=0),
        node("Range", ["first", "n", "step"], ["numbers"]),
        node("Cast", ["numbers"], ["float"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["float", "one"], ["column"]),
        node("Add", ["x", "column"], ["mixed"]),
    ], [constant("first", 0), constant("step", 1), constant("one", [1])])
    save("attention_of_rows", [
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
        node("MatMul", ["weights", "x"], ["mixed"]),
    ])
    save("transposed_in_a_reshape", [
        node("Reshape", ["x", "wide"], ["flat"]),
        node("Transpose", ["flat"], ["turned"], perm=[1, 0]),
        node("Reshape", ["turned", "narrow"], ["mixed"]),
    ], [constant("wide", [4, -1]), constant("narrow", [-1, 4])])
    save("first_of_all", [
        node("Slice", ["x", "zero", "one", "zero"], ["head"]),
        node("Shape", ["x"], ["shape"]),
        node("Expand", ["head", "shape"], ["mixed"]),
    ], [zero, constant("one", [1])])
    save("recurrent_over_rows", [
        node("Unsqueeze", ["x", "one"], ["sequence"]),
        node("RNN", ["sequence", "w", "r"], ["all", "last"], hidden_size=4),
        node("Squeeze", ["all", "axes"], ["mixed"]),
    ], [
        constant("one", [1]), constant("axes", [1, 2]),
        constant("w", np.full((1, 4, 4), 0.1), np.float32), constant("r", np.full((1, 4, 4), 0.2), np.float32),
    ])


if __name__ == "__main__":
    main()
