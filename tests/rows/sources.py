"""The graphs that exist already: the census, packages, and onnx's node models."""

import json
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inputs import NO_TENSOR
from runs import CARRIERS, passable

CENSUS_DTYPES = {"FP32": "float32", "FP64": "float64", "BYTES": "object", "BOOL": "bool"}


@dataclass
class Source:
    """A graph, where it comes from, and recorded values of its inputs."""

    origin: str
    name: str
    model: onnx.ModelProto
    recorded: dict

    def inputs(self):
        """How to draw each input: its type, its shape, and whether it carries rows."""
        constants = {constant.name for constant in self.model.graph.initializer}
        return [self.input(value) for value in self.model.graph.input if value.name not in constants]

    def input(self, value):
        tensor = value.type.tensor_type
        shape = [size_of(dim, f"{value.name} {at}") for at, dim in enumerate(tensor.shape.dim)]
        element = CARRIERS.get(tensor.elem_type, tensor.elem_type)
        dtype = helper.tensor_dtype_to_np_dtype(element).name if element else NO_TENSOR
        rows = bool(shape) and not isinstance(shape[0], int)
        return {"name": value.name, "dtype": dtype, "shape": shape, "rows": rows}


def size_of(dim, name):
    """A size as a number, or as the name of an open one."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return dim.dim_value
    return dim.dim_param or name


def census(directory):
    for path in sorted(directory.glob("*.onnx")):
        cases = json.loads(path.with_suffix(".json").read_text())["cases"]
        recorded = {}
        for inputs in zip(*(case["inputs"] for case in cases)):
            recorded[inputs[0]["name"]] = np.concatenate([recorded_array(each) for each in inputs])
        yield Source("census", path.stem, onnx.load(path), recorded)


def recorded_array(entry):
    dtype = CENSUS_DTYPES.get(entry["datatype"], entry["datatype"].lower())
    return np.array(entry["data"], dtype).reshape(entry["shape"])


def packages(directories):
    """The graph of each package below the directories, with the package's own example as recorded values."""
    for directory in directories:
        for path in sorted(directory.glob("**/model.onnx")):
            model = onnx.load(path)
            source = Source("example", path.parent.name, model, {})
            example = path.parent / "serving_input_example.json"
            if example.exists():
                source.recorded = example_values(json.loads(example.read_text()), source.inputs())
            yield source


def example_values(example, inputs):
    """Arrays from a data frame or from named or single inputs; what does not fit the inputs counts as none."""
    if "dataframe_split" in example:
        table = example["dataframe_split"]
        columns = dict(zip(table["columns"], map(list, zip(*table["data"]))))
        values = columns if len(inputs) > 1 else {inputs[0]["name"]: table["data"]}
    else:
        values = example.get("inputs", {})
        values = values if isinstance(values, dict) else {inputs[0]["name"]: values}
    recorded = {}
    for entry in inputs:
        if entry["name"] in values:
            array = np.array(values[entry["name"]], "object" if entry["dtype"] == "object" else entry["dtype"])
            recorded[entry["name"]] = array.reshape(-1, *fixed(entry["shape"][1:], array.shape[1:]))
    return recorded


def fixed(sizes, found):
    """The declared sizes; open ones as found."""
    if len(found) < len(sizes):
        return [size if isinstance(size, int) else 1 for size in sizes]
    return [size if isinstance(size, int) else other for size, other in zip(sizes, found)]


def node_cases():
    """onnx's own models of one operator each, with inputs and answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test import loader

        return loader.load_model_tests(kind="node")


def node_models():
    """The same with the first axis open."""
    for case in node_cases():
        yield opened(case.name, case.model, list(case.data_sets[0][0]) if case.data_sets else [])


def opened(name, original, values):
    """The model with rows on each input whose first size is that of the first; the other inputs become constants."""
    model = onnx.ModelProto.FromString(original.SerializeToString())
    graph = model.graph
    arrays = [as_array(value) for value in values]
    first = arrays[0].shape[0] if arrays and arrays[0] is not None and arrays[0].ndim else None
    recorded, kept = {}, []
    for value, array in zip(list(graph.input), arrays):
        if array is None:
            kept.append(value)
        elif first is not None and array.ndim and array.shape[0] == first:
            kept.append(with_rows(value, array.shape))
            recorded[value.name] = passable(array)
        else:
            graph.initializer.append(constant(value, array))
    del graph.input[:]
    graph.input.extend(kept)
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    model.ir_version = max(model.ir_version, 4)
    return Source("node", name, model, recorded)


def as_array(value):
    """A recorded value as an array; none for a sequence, or an absent optional."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return None if value is None or isinstance(value, (list, dict)) else np.asarray(value)


def with_rows(value, shape):
    open_value = onnx.ValueInfoProto.FromString(value.SerializeToString())
    del open_value.type.tensor_type.shape.dim[:]
    for size in ["N", *shape[1:]]:
        open_value.type.tensor_type.shape.dim.add(**{"dim_param" if size == "N" else "dim_value": size})
    return open_value


def constant(value, array):
    """An initializer in the element type of the input that it replaces."""
    element = value.type.tensor_type.elem_type
    if element == onnx.TensorProto.STRING:
        return numpy_helper.from_array(array.astype(object), value.name)
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(element)), value.name)
