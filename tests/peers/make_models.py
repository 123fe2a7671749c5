"""Makes the little ONNX models that stand for those of the peers' own tests.

Run with Python 3 that has `onnx`: `python tests/peers/make_models.py`. The files are committed; run this again only to
change them.
"""

from pathlib import Path

from onnx import TensorProto, helper

HERE = Path(__file__).parent / "models"

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
HALF, TEXT = TensorProto.FLOAT16, TensorProto.STRING
INT32, INT64, UINT8 = TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8


def save(name, nodes, inputs, outputs, initializers=()):
    inputs, outputs = ([helper.make_tensor_value_info(*tensor) for tensor in side] for side in [inputs, outputs])
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="onstage tests")
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


def same(name, *tensors):
    """A model that gives its inputs back; a tensor is: input, output, type, shape."""
    save(
        name,
        [helper.make_node("Identity", [given], [taken]) for given, taken, _, _ in tensors],
        [(given, kind, shape) for given, _, kind, shape in tensors],
        [(taken, kind, shape) for _, taken, kind, shape in tensors],
    )


def half_plus_two():
    numbers = [helper.make_tensor(name, FLOAT, [], [value]) for name, value in [("half", 0.5), ("two", 2.0)]]
    nodes = [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Add", ["h", "two"], ["y"])]
    save("half_plus_two", nodes, [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])], numbers)


def half_precision():
    """Half precision in, single precision out, and the other way round."""
    nodes = [
        helper.make_node("Cast", ["half"], ["single_out"], to=FLOAT),
        helper.make_node("Cast", ["single"], ["half_out"], to=HALF),
    ]
    shape = ["N", 4]
    inputs = [("half", HALF, shape), ("single", FLOAT, shape)]
    save("half_precision", nodes, inputs, [("single_out", FLOAT, shape), ("half_out", HALF, shape)])


def three_inputs():
    nodes = [helper.make_node("Sum", ["a", "b", "c"], ["sum"])]
    save("three_inputs", nodes, [(name, FLOAT, ["N", 8]) for name in "abc"], [("sum", FLOAT, ["N", 8])])


def row_sums():
    nodes = [helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)]
    axis = helper.make_tensor("axis", INT64, [1], [1])
    save("row_sums", nodes, [("x", FLOAT, ["N", 3])], [("sum", FLOAT, ["N"])], [axis])


def main():
    same("same_float32", ("x", "y", FLOAT, ["N", 8]))
    same("same_int64", ("x", "y", INT64, ["N", 2]))
    same("same_uint8", ("x", "y", UINT8, ["N", 2]))
    same("same_text", ("x", "y", TEXT, ["N", 2]))
    same("one_text", ("x", "y", TEXT, ["N", 1]))
    same("two_open", ("x", "y", FLOAT, ["N", "M", "K"]))
    same("cube", ("x", "y", INT32, ["N", 3, 2]))
    same("numbers", ("x", "y", INT32, ["N"]))
    same("doubles", ("x", "y", DOUBLE, ["N"]))
    same("texts", ("x", "y_bytes", TEXT, ["N", 2]))
    same(
        "mixed",
        ("count", "count_out", INT32, ["N", 3, 2]),
        ("word", "word_out", TEXT, ["N", 2]),
        ("share", "share_out", FLOAT, ["N", 1]),
        ("weight", "weight_out", DOUBLE, ["N"]),
    )
    same("columns", ("age", "age_out", INT64, ["N", 1]), ("city", "city_out", TEXT, ["N", 1]))
    half_plus_two()
    half_precision()
    three_inputs()
    row_sums()


main()
