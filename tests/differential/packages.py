"""Small packages with signatures that the recorded models lack, made on the fly."""

from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array, Map, Object, Property
from onnx import TensorProto, helper

F16, F32, F64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE
I8, U8, I32, I64 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64
BOOL, STRING = TensorProto.BOOL, TensorProto.STRING


def echo(*inputs):
    """A graph that gives back each of its inputs: `(name, type, shape)`."""
    takes = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    gives = [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in inputs]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    return finish(nodes, takes, gives)


def reduce(operator, keep):
    """One float input `[n, m]`, reduced over its columns, or over everything to a scalar."""
    takes = [helper.make_tensor_value_info("x", F32, ["n", "m"])]
    gives = [helper.make_tensor_value_info("y", F32, ["n"] if keep else [])]
    attributes = {"axes": [1], "keepdims": 0} if keep else {"keepdims": 0}
    return finish([helper.make_node(operator, ["x"], ["y"], **attributes)], takes, gives)


def finish(nodes, takes, gives):
    graph = helper.make_graph(nodes, "g", takes, gives)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tensor(dtype, shape, name=None):
    return TensorSpec(np.dtype(dtype), shape, name)


def packages():
    """Name, graph, inputs of the signature, params."""
    column, kind = ColSpec, DataType
    params = [
        ParamSpec("whole", DataType.long, 3),
        ParamSpec("part", DataType.float, 0.5),
        ParamSpec("word", DataType.string, "a"),
        ParamSpec("flag", DataType.boolean, True),
        ParamSpec("when", DataType.datetime, np.datetime64("2024-05-01")),
        ParamSpec("many", DataType.double, [1.0, 2.0], (-1,)),
    ]
    one = ("x", F32, ["n"])
    return [
        ("unnamed_columns", reduce("ReduceMean", True), [column(kind.double), column(kind.double)], None),
        ("unnamed_mixed", reduce("ReduceMean", True), [column(kind.long), column(kind.float)], None),
        ("one_column", echo(one), [column(kind.float, "x")], None),
        ("one_text", echo(("s", STRING, ["n"])), [column(kind.string, "s")], None),
        ("one_long", echo(("k", I64, ["n", 1])), [column(kind.long, "k")], None),
        ("one_boolean", echo(("b", BOOL, ["n", 1])), [column(kind.boolean, "b")], None),
        ("double_columns", echo(("a", F64, ["n"]), ("b", F64, ["n"])), [column(kind.double, "a"), column(kind.double, "b")], None),
        ("mixed_frame", reduce("ReduceSum", False), [column(kind.float, "a"), column(kind.double, "b"), column(kind.integer, "c")], None),
        ("all_optional", echo(one, ("y", F32, ["n"])), [column(kind.float, "x", False), column(kind.float, "y", False)], None),
        ("unused_dates", echo(one, ("y", F32, ["n"])), [column(kind.float, "x"), column(kind.float, "y"), column(kind.datetime, "t")], None),
        ("unused_bytes", echo(one, ("y", F32, ["n"])), [column(kind.float, "x"), column(kind.float, "y"), column(kind.binary, "p")], None),
        ("unused_array", echo(one, ("y", F32, ["n"])), [column(kind.float, "x"), column(kind.float, "y"), column(Array(kind.double), "v")], None),
        (
            "unused_object",
            echo(one, ("y", F32, ["n"])),
            [
                column(kind.float, "x"),
                column(kind.float, "y"),
                column(Object([Property("a", kind.double), Property("b", kind.double, False)]), "o"),
                column(Map(kind.double), "m", False),
            ],
            None,
        ),
        ("params_of_all_types", reduce("ReduceMean", True), [column(kind.double, "a"), column(kind.double, "b")], params),
        ("params_on_tensor", reduce("ReduceMean", True), [tensor("float32", (-1, 2))], params),
        ("tensor_text", echo(("s", STRING, ["n"])), [tensor("str", (-1,))], None),
        ("tensor_text_named", echo(("s", STRING, ["n", 1])), [tensor("str", (-1, 1), "s")], None),
        ("tensor_double", echo(("x", F64, ["n", 2])), [tensor("float64", (-1, 2))], None),
        ("tensor_double_to_float", echo(("x", F32, ["n", 2])), [tensor("float64", (-1, 2))], None),
        ("tensor_long", echo(("x", I64, ["n"])), [tensor("int64", (-1,))], None),
        ("tensor_half", echo(("x", F16, ["n", 2])), [tensor("float16", (-1, 2))], None),
        ("tensor_fixed", echo(("x", F32, [2, 3])), [tensor("float32", (2, 3))], None),
        ("tensor_free", echo(("x", F32, ["a", "b", "c"])), [tensor("float32", (-1, -1, -1))], None),
        ("tensor_image", echo(("image", U8, ["n", 2, 2, 3])), [tensor("uint8", (-1, 2, 2, 3), "image")], None),
        ("tensor_scalar_out", reduce("ReduceSum", False), [tensor("float32", (-1, 2), "x")], None),
        (
            "tensors_of_all_types",
            echo(("f", F32, ["n"]), ("d", F64, ["n"]), ("i", I32, ["n"]), ("l", I64, ["n"]), ("y", I8, ["n"]), ("b", BOOL, ["n"]), ("s", STRING, ["n"])),
            [
                tensor("float32", (-1,), "f"),
                tensor("float64", (-1,), "d"),
                tensor("int32", (-1,), "i"),
                tensor("int64", (-1,), "l"),
                tensor("int8", (-1,), "y"),
                tensor("bool", (-1,), "b"),
                tensor("str", (-1,), "s"),
            ],
            None,
        ),
        ("bare_long", echo(("x", I64, ["n"])), None, None),
        ("bare_text", echo(("s", STRING, ["n"])), None, None),
        ("bare_many", echo(one, ("k", I64, ["n"]), ("s", STRING, ["n"]), ("b", BOOL, ["n"])), None, None),
        ("bare_deep", echo(("x", F32, ["a", "b", "c"])), None, None),
    ]


def write(directory, only=None):
    """Writes every package (or those named) below `directory`; those that exist stay."""
    for name, graph, inputs, params in packages():
        path = Path(directory) / name
        if path.exists() or (only and name not in only):
            continue
        signature = inputs and ModelSignature(inputs=Schema(inputs), params=params and ParamSchema(params))
        mlflow.onnx.save_model(
            graph,
            path,
            signature=signature,
            pip_requirements=["mlflow"],  # asking MLflow to find out takes ten seconds each
            onnx_execution_providers=["CPUExecutionProvider"],
        )
