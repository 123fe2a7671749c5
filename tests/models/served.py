"""Makes the graphs of `served` that need no package, and records how MLflow answers requests to them.

Run with the Python of the tests, which has MLflow: `python tests/models/served.py`. The files are committed; run this
again only to change them.
"""

import io
import json
import tempfile
from pathlib import Path

import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnx
import onnxruntime
from mlflow.pyfunc.scoring_server import _split_data_and_params, infer_and_parse_data, predictions_to_json
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent / "served"
FLOAT = TensorProto.FLOAT
ROWS = {"inputs": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
FRAME = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}}


def tensor(name, dtype=FLOAT, shape=("N", 2)):
    return helper.make_tensor_value_info(name, dtype, shape)


def sequence(name, dtype=FLOAT):
    return helper.make_tensor_sequence_value_info(name, dtype, None)


def optional(name, kind):
    return helper.make_value_info(name, helper.make_optional_type_proto(kind))


def matrix(dtype=FLOAT):
    return helper.make_tensor_type_proto(dtype, ("N", 2))


def model(nodes, outputs, inputs=None, initializers=(), ir_version=9):
    graph = helper.make_graph(nodes, "g", inputs or [tensor("x")], outputs, list(initializers))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version, producer_name="onstage tests"
    )


def constant(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype), name)


def typed(name, dtype, shape, values):
    """With its elements in the field of their type, as `onnx.helper` writes them."""
    return helper.make_tensor(name, dtype, shape, values)


node = helper.make_node


def output_types():
    """Outputs that are no plain tensors, and one that is named twice."""
    split = node("SplitToSequence", ["x"], ["s"], axis=0)
    yield "twice", model([node("Neg", ["x"], ["y"])], [tensor("y"), tensor("y")]), [ROWS, FRAME]
    both = [node("Neg", ["x"], ["y"]), node("Abs", ["y"], ["z"])]
    yield "twice_apart", model(both, [tensor("y"), tensor("z"), tensor("y")]), [ROWS, FRAME]
    yield "sequence", model([split], [sequence("s")]), [ROWS, FRAME]
    uneven = node("SplitToSequence", ["x", "lengths"], ["s"], axis=0)
    lengths = constant("lengths", [1, 2], np.int64)
    yield "sequence_uneven", model([uneven], [sequence("s")], initializers=[lengths]), [ROWS]
    yield "sequence_and_tensor", model([split, node("Neg", ["x"], ["y"])], [sequence("s"), tensor("y")]), [ROWS]
    texts = node("SplitToSequence", ["x"], ["s"], axis=1, keepdims=0)
    words = tensor("x", TensorProto.STRING)
    yield "sequence_texts", model([texts], [sequence("s", TensorProto.STRING)], [words]), [
        {"inputs": [["a", "b"], ["c", "d"]]}
    ]
    empty = node("SequenceEmpty", [], ["s"], dtype=FLOAT)
    yield "sequence_empty", model([empty, node("Neg", ["x"], ["y"])], [sequence("s"), tensor("y")]), [ROWS]
    wrap = node("Optional", ["x"], ["o"])
    yield "optional", model([wrap], [optional("o", matrix())]), [ROWS, FRAME]
    wrap = [split, node("Optional", ["s"], ["o"])]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    yield "optional_sequence", model(wrap, [optional("o", kind)]), [ROWS]
    unwrap = node("OptionalGetElement", ["x"], ["y"])
    yield "optional_input", model([unwrap], [tensor("y")], [optional("x", matrix())]), [ROWS]


def defaults():
    """Inputs that have an initializer."""
    x, c = tensor("x"), tensor("c", shape=(2,))
    add, out = node("Add", ["x", "c"], ["y"]), [tensor("y")]
    ten = constant("c", [1.0, 1.0], np.float32)
    given = {"inputs": {"x": [[1.0, 2.0]], "c": [10.0, 10.0]}}
    alone = {"inputs": {"x": [[1.0, 2.0]]}}
    both = [given, alone, ROWS, FRAME]
    yield "default", model([add], out, [x, c], [ten]), both
    yield "default_first", model([add], out, [c, x], [ten]), both
    yield "default_typed", model([add], out, [x, c], [typed("c", FLOAT, (2,), [1.0, 1.0])]), both
    yield "default_scalar", model([add], out, [x, tensor("c", shape=())], [constant("c", 1.0, np.float32)]), [
        {"inputs": {"x": [[1.0, 2.0]], "c": 10.0}},
        alone,
    ]
    # Before IR version 4 each initializer had to be listed as an input.
    yield "default_of_ir_3", model([add], out, [x, c], [ten], ir_version=3), [alone, ROWS]
    top = node("TopK", ["x", "k"], ["y", "places"])
    outs = [tensor("y", shape=("N", None)), tensor("places", TensorProto.INT64, ("N", None))]
    k = tensor("k", TensorProto.INT64, (1,))
    yield "default_count", model([top], outs, [x, k], [constant("k", [1], np.int64)]), [
        {"inputs": {"x": [[1.0, 2.0]], "k": [2]}},
        alone,
    ]
    where = [node("Cast", ["on"], ["b"], to=TensorProto.BOOL), node("Where", ["b", "x", "d"], ["y"])]
    double = tensor("x", TensorProto.DOUBLE)
    several = [double, tensor("on", TensorProto.INT64, (1,)), tensor("d", TensorProto.DOUBLE, (1,))]
    values = [typed("on", TensorProto.INT64, (1,), [0]), typed("d", TensorProto.DOUBLE, (1,), [7.5])]
    yield "default_several", model(where, [tensor("y", TensorProto.DOUBLE)], several, values), [
        {"inputs": {"x": [[1.0, 2.0]]}},
        {"inputs": {"x": [[1.0, 2.0]], "on": [1]}},
        {"inputs": {"x": [[1.0, 2.0]], "d": [-1.0]}},
    ]


def answer(scorer, graph, request):
    data, params = _split_data_and_params(json.dumps(request))
    parsed = infer_and_parse_data(data, None)
    try:
        predicted = scorer.predict(parsed, params=params)
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
        # MLflow makes doubles of JSON's numbers, and casts none of an input that it does not know.
        predicted = engine_answer(graph, request["inputs"])
    written = io.StringIO()
    predictions_to_json(predicted, written)
    return {"request": request, "answer": json.loads(written.getvalue())}


def engine_answer(graph, given):
    dtypes = {value.name: declared(value.type) for value in graph.graph.input}
    named = given if isinstance(given, dict) else {graph.graph.input[0].name: given}
    feeds = {name: np.array(values, dtypes[name]) for name, values in named.items()}
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds)))


def declared(kind):
    tensor = (kind.optional_type.elem_type if kind.HasField("optional_type") else kind).tensor_type
    return helper.tensor_dtype_to_np_dtype(tensor.elem_type)


def main():
    recorded = {}
    for name, graph, requests in [*output_types(), *defaults()]:
        (HERE / f"{name}.onnx").write_bytes(graph.SerializeToString())
        with tempfile.TemporaryDirectory() as folder:
            package = f"{folder}/package"
            mlflow.onnx.save_model(graph, package)
            scorer = mlflow.pyfunc.load_model(package)
            recorded[name] = [answer(scorer, graph, request) for request in requests]
    (HERE / "answers.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
