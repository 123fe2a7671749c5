"""Runs graphs with ONNX Runtime and reads its answers as rows."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from graphs import opset_of

LOG_FATAL = 4
onnxruntime.set_default_logger_severity(LOG_FATAL)

# Element types that ONNX Runtime's Python cannot pass, and one that holds all their values: the graph gets a Cast at its edge.
CARRIERS = {
    TensorProto.BFLOAT16: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FN: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT8E8M0: TensorProto.FLOAT,
    TensorProto.FLOAT4E2M1: TensorProto.FLOAT,
    TensorProto.INT4: TensorProto.INT8,
    TensorProto.UINT4: TensorProto.UINT8,
    TensorProto.INT2: TensorProto.INT8,
    TensorProto.UINT2: TensorProto.UINT8,
}


CARRIED = "__carried"


class NotRows(Exception):
    """An output that is no tensor, and no list with a map for each row."""


@dataclass
class Failed:
    """A run that ended in an error."""

    message: str


def options():
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = chosen.inter_op_num_threads = 1
    chosen.log_severity_level = LOG_FATAL
    return chosen


def load(model):
    """A session of a model that fits this machine and Python; raises what ONNX Runtime raises."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    carry(model)
    set_locale(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), options(), providers=["CPUExecutionProvider"])


def set_locale(model):
    """Every system has this locale; the default of StringNormalizer is missing in most containers."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("locale", "C.UTF-8")])


def carry(model):
    """Gives the inputs and outputs element types that Python can pass."""
    graph = model.graph
    before, after = [], []
    for value in [*graph.input, *graph.output]:
        narrow = value.type.tensor_type.elem_type
        if narrow not in CARRIERS:
            continue
        inner, outer = value.name, value.name + CARRIED
        if value in graph.input:
            before.append(helper.make_node("Cast", [outer], [inner], to=narrow))
        else:
            after.append(helper.make_node("Cast", [inner], [outer], to=CARRIERS[narrow]))
        value.name = outer
        value.type.tensor_type.elem_type = CARRIERS[narrow]
    if before or after:
        nodes = [*before, *graph.node, *after]
        del graph.node[:]
        graph.node.extend(nodes)
        if opset_of(model) is None:
            model.opset_import.append(helper.make_opsetid("", 21))


def passable(array):
    """An array in the type that stands for its own where Python cannot pass that."""
    carrier = CARRIERS.get(helper.np_dtype_to_tensor_dtype(array.dtype))
    return array if carrier is None else array.astype(helper.tensor_dtype_to_np_dtype(carrier))


def typed(model):
    """The model with the types and sizes of its outputs as ONNX Runtime infers them."""
    for output, inferred in zip(model.graph.output, load(model).get_outputs()):
        # An unknown rank looks like rank 0; invented names of sizes start with `unk`.
        sizes = [None if str(size).startswith("unk") else size for size in inferred.shape]
        output.type.CopyFrom(parsed(inferred.type, sizes or None))
    return model


def parsed(name, sizes=None):
    """The type that ONNX Runtime writes as `tensor(float)`, `seq(tensor(float))`, or `seq(map(int64,tensor(float)))`."""
    kind, inner = name.removesuffix(")").split("(", 1)
    if kind == "seq":
        return helper.make_sequence_type_proto(parsed(inner))
    if kind == "map":
        key, value = inner.split(",", 1)
        return helper.make_map_type_proto(element_type(key), parsed(value))
    return helper.make_tensor_type_proto(element_type(inner), sizes)


def element_type(name):
    return TensorProto.DataType.Value(name.upper())


class Runner:
    """A session and the names that it feeds by."""

    def __init__(self, model):
        self.session = load(model)
        self.inputs = {entry.name.removesuffix(CARRIED): entry.name for entry in self.session.get_inputs()}
        self.outputs = [entry.name.removesuffix(CARRIED) for entry in self.session.get_outputs()]

    def raw(self, feed):
        """The outputs as ONNX Runtime gives them; raises what it raises."""
        return self.session.run(None, {self.inputs[name]: array for name, array in feed.items()})

    def run(self, feed):
        """The outputs as arrays with rows on the first axis, or `Failed`."""
        try:
            outputs = self.raw(feed)
        except Exception as error:
            return Failed(str(error))
        return [array for output in outputs for array in as_rows(output)]


def as_rows(output):
    """The arrays of an output: itself, or the keys and values of a list of maps."""
    if isinstance(output, np.ndarray) and output.ndim > 0:
        return [output]
    if isinstance(output, list) and output and all(isinstance(row, dict) for row in output):
        keys = np.empty(len(output), object)
        keys[:] = [repr(list(row)) for row in output]
        return [keys, np.array([list(row.values()) for row in output])]
    kind = "a scalar" if isinstance(output, (np.ndarray, np.generic)) else type(output).__name__
    raise NotRows(f"an output is {kind}, without rows")


def tolerance(rows):
    """For each row the difference that rounding may make: 1e-5 of its largest finite value, or of 1."""
    flat = np.abs(rows.reshape(len(rows), -1).astype(np.float64))
    flat[~np.isfinite(flat)] = 0
    largest = flat.max(axis=1, initial=1.0)
    return 1e-5 * largest.reshape(-1, *[1] * (rows.ndim - 1))


def differing(right, found):
    """Which elements of two arrays of rows differ by more than rounding; NaN equals NaN."""
    if right.dtype.kind != "f":
        return np.asarray(right != found, bool)
    right, found = right.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        close = np.abs(right - found) <= tolerance(right)
    return ~(close | (right == found) | (np.isnan(right) & np.isnan(found)))
