"""Writes nodes of an ONNX graph in the form that an opset prescribes."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"
ML_OPSET = 3
IR_VERSION = 8
LARGEST_IR_VERSION = 10
TO_THE_END = np.iinfo(np.int64).max

# The opset from which a reduction reads its axes from an input, not from an attribute.
AXES_INPUT_SINCE = {"ReduceSum": 13}
OTHER_AXES_INPUT_SINCE = 18


class Builder:
    """Collects nodes and constants; each method that writes a node gives the name of its output."""

    def __init__(self, opset, prefix="v"):
        self.opset = opset
        self.prefix = prefix
        self.nodes = []
        self.constants = []
        self.count = 0

    def fresh(self):
        self.count += 1
        return f"{self.prefix}{self.count}"

    def op(self, op_type, *inputs, outputs=1, domain="", **attributes):
        """The name of the output of a new node; a list of names if it has several."""
        names = [self.fresh() for _ in range(outputs)]
        node = helper.make_node(op_type, list(inputs), names, domain=domain, **attributes)
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def ml(self, op_type, *inputs, outputs=1, **attributes):
        return self.op(op_type, *inputs, outputs=outputs, domain=ML, **attributes)

    def const(self, value, dtype=np.float32):
        name = self.fresh()
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values):
        return self.const(values, np.int64)

    def int(self, value):
        return self.const(value, np.int64)

    def cast(self, x, to=TensorProto.FLOAT):
        return self.op("Cast", x, to=to)

    def with_axes(self, op_type, since, x, axes, **attributes):
        """A node whose axes are an input from opset `since` on, and an attribute before."""
        if axes is None:
            return self.op(op_type, x, **attributes)
        if self.opset >= since:
            return self.op(op_type, x, self.ints(*axes), **attributes)
        return self.op(op_type, x, axes=list(axes), **attributes)

    def squeeze(self, x, axes):
        return self.with_axes("Squeeze", 13, x, axes)

    def unsqueeze(self, x, *axes):
        return self.with_axes("Unsqueeze", 13, x, axes)

    def reduce(self, kind, x, axes, keep=True):
        op_type = f"Reduce{kind}"
        since = AXES_INPUT_SINCE.get(op_type, OTHER_AXES_INPUT_SINCE)
        return self.with_axes(op_type, since, x, axes, keepdims=int(keep))

    def slice(self, x, start, end, axis, step=1):
        if self.opset < 10:
            return self.op("Slice", x, starts=[start], ends=[end], axes=[axis])
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step))

    def pad(self, x, before, after):
        pads = [*before, *after]
        if self.opset < 11:
            return self.op("Pad", x, pads=pads)
        return self.op("Pad", x, self.ints(*pads))

    def split(self, x, axis, sizes):
        if self.opset < 13:
            return self.op("Split", x, outputs=len(sizes), axis=axis, split=sizes)
        return self.op("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def top_k(self, x, k, axis):
        """Values and indices of the largest `k`: a number, or from opset 10 on the name of a rank-1 value."""
        if self.opset < 10:
            return self.op("TopK", x, outputs=2, k=k, axis=axis)
        return self.op("TopK", x, k if isinstance(k, str) else self.ints(k), outputs=2, axis=axis)

    def clip(self, x, low, high):
        if self.opset < 11:
            return self.op("Clip", x, min=low, max=high)
        return self.op("Clip", x, self.const(low), self.const(high))

    def reshape(self, x, *shape):
        return self.op("Reshape", x, self.ints(*shape))

    def size(self, x, axis=0):
        """The size of an axis as an integer of rank 0, as torch exports `x.size(axis)`."""
        return self.op("Gather", self.op("Shape", x), self.int(axis), axis=0)

    def shape_of(self, *parts):
        """A shape from names of rank-0 integers and from numbers, as torch exports a list of sizes."""
        sizes = [self.unsqueeze(part, 0) if isinstance(part, str) else self.ints(part) for part in parts]
        return self.op("Concat", *sizes, axis=0)

    def view(self, x, *parts):
        return self.op("Reshape", x, self.shape_of(*parts))

    def range(self, limit):
        """The numbers from 0 to `limit`, the name of a rank-0 integer."""
        return self.op("Range", self.int(0), limit, self.int(1))

    def fill(self, shape, value, dtype=np.float32):
        """A tensor of the shape that a value holds."""
        tensor = numpy_helper.from_array(np.asarray([value], dtype))
        return self.op("ConstantOfShape", shape, value=tensor)

    def flat(self, x):
        """A matrix with a row for each position of the first axis."""
        return self.op("Flatten", x, axis=1)

    def like(self, x, other):
        """The elements of `x` in the shape of `other`."""
        return self.op("Reshape", x, self.op("Shape", other))

    def model(self, inputs, outputs):
        """A model of all nodes; `outputs` are names, typed by ONNX Runtime's own inference."""
        graph = helper.make_graph(self.nodes, "rows", inputs, [untyped(name) for name in outputs], self.constants)
        domains = {node.domain for node in self.nodes} | {""}
        versions = {"": self.opset, ML: ML_OPSET, "com.microsoft": 1}
        opsets = [helper.make_opsetid(domain, versions[domain]) for domain in sorted(domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version(self.opset))


def ir_version(opset):
    return IR_VERSION if opset <= 18 else LARGEST_IR_VERSION


def untyped(name):
    return onnx.ValueInfoProto(name=name)


def tensor_input(name, dtype, shape):
    """An input; `dtype` is numpy's, and strings in `shape` name open sizes."""
    element = TensorProto.STRING if np.dtype(dtype).kind in "OU" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, list(shape))


def opset_of(model, domain=""):
    """The version of an operator set that a model imports, or none."""
    aliases = {"", "ai.onnx"} if domain == "" else {domain}
    return next((entry.version for entry in model.opset_import if entry.domain in aliases), None)
