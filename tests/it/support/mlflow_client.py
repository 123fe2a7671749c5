"""Evaluates one Python expression per line of input, each a JSON text, and answers each with a line of JSON."""

import json
import sqlite3
import sys

import mlflow
import mlflow.onnx
import numpy
import onnx
from onnx import TensorProto, helper

# What MLflow prints must not be taken for an answer.
answers, sys.stdout = sys.stdout, sys.stderr

mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()


def times(factor, input="x"):
    """The graph y = x * factor, so that an answer tells which version gave it."""
    constant = onnx.numpy_helper.from_array(numpy.array([factor], numpy.float32), "factor")
    graph = helper.make_graph(
        [helper.make_node("Mul", [input, "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info(input, TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [constant],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def gather():
    """A graph like `times` that loads and fails on every row: it takes column 6 of one, by an index that no loader sees."""
    nodes = [
        helper.make_node("ArgMax", ["k"], ["i"], axis=0, keepdims=1),
        helper.make_node("Gather", ["x", "i"], ["g"], axis=1),
        helper.make_node("Mul", ["g", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gather",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [onnx.numpy_helper.from_array(numpy.array([0, 0, 0, 0, 0, 0, 9], numpy.float32), "k")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def register(name, graph, **options):
    """Logs a graph, or the one at a path, as a model of a new run and registers it; tells how to find it."""
    graph = onnx.load(graph) if isinstance(graph, str) else graph
    with mlflow.start_run() as run:
        info = mlflow.onnx.log_model(
            graph, name="model", registered_model_name=name, pip_requirements=["onnx"], **options
        )
    return {"run": run.info.run_id, "id": info.model_id, "version": info.registered_model_version}


def sql(database, script):
    """Changes what no call of MLflow's API can."""
    with sqlite3.connect(database) as connection:
        connection.executescript(script)


for line in sys.stdin:
    try:
        answer = {"value": eval(json.loads(line))}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, default=str), file=answers, flush=True)
