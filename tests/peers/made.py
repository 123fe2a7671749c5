"""Packages that this version of MLflow writes, one server of onstage for them, and MLflow's own answers."""

import json
import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow.types import DataType, ParamSchema, ParamSpec
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, TEXT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.STRING
BOOLEAN, INTEGER, LONG = TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64


def graph(nodes, inputs, outputs, weights=()):
    """A graph of tensors that are `(name, type, shape)`, with its weights as arrays by name."""
    inputs, outputs = ([helper.make_tensor_value_info(*tensor) for tensor in side] for side in [inputs, outputs])
    weights = [numpy_helper.from_array(array, name) for name, array in dict(weights).items()]
    made = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sums(width=2):
    """The sum of each row."""
    node = helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)
    return graph([node], [("x", FLOAT, ["N", width])], [("y", FLOAT, ["N"])], {"axis": np.array([1])})


def product(kind, *names):
    """Two columns, multiplied; unless told, their names have what frameworks put into them."""
    node = helper.make_node("Mul", names or ["first_input:0", "second_input:0"], ["product"])
    return graph([node], [(name, kind, ["N"]) for name in node.input], [("product", kind, ["N"])])


def two_tensors():
    node = helper.make_node("Concat", ["a", "b"], ["both"], axis=1)
    return graph([node], [(name, FLOAT, ["N", 2]) for name in "ab"], [("both", FLOAT, ["N", 4])])


def heavy():
    """Enough weights that MLflow puts them into a file of their own."""
    weights = np.linspace(-1, 1, 4 * 500, dtype=np.float32).reshape(4, 500)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    return graph(
        nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 1])], {"w": weights, "v": np.ones((500, 1), np.float32) / 100}
    )


COLUMNS = {"boolean": BOOLEAN, "integer": INTEGER, "long": LONG, "float": FLOAT, "double": DOUBLE, "string": TEXT}


def columns():
    """A column of each type that a graph can take, given back."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in COLUMNS]
    inputs = [(name, kind, ["N"]) for name, kind in COLUMNS.items()]
    return graph(nodes, inputs, [(f"{name}_out", kind, ["N"]) for name, kind in COLUMNS.items()])


def dates():
    """The parameter of MLflow's tests of parameters."""
    return ParamSchema([ParamSpec("param1", DataType.datetime, np.datetime64("2023-07-01"))])


def save(directory, name, model, **options):
    mlflow.onnx.save_model(model, str(directory / name), pip_requirements=["onnx"], **options)


class Mlflow:
    """What MLflow's own scoring code of this version answers, without a server."""

    def __init__(self, directory):
        self.directory = directory
        self.models = {}

    def model(self, name):
        if name not in self.models:
            self.models[name] = mlflow.pyfunc.load_model(str(self.directory / name))
        return self.models[name]

    def ask(self, name, body, content_type):
        """The status, and the body as text."""
        model = self.model(name)
        text = body if isinstance(body, str) else json.dumps(body)
        try:
            found = scoring_server.invocations(text, content_type, model, model.metadata.get_input_schema())
        except MlflowException as error:
            # As the server makes an answer of it.
            return error.get_http_status_code(), error.serialize_as_json()
        return found.status, found.response
