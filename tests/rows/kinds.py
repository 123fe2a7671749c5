"""The ways in which one inserted operator makes rows depend on each other, on their position, or on their number.

Each function writes nodes that turn `x` into a value of the same shape, along whose first axis something mixes. `edge`
knows the rank of `x` and its sizes.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from graphs import TO_THE_END, Builder, tensor_input

KINDS = {}


@dataclass
class Kind:
    write: object
    since: int
    any_type: bool
    wide: bool


@dataclass
class Edge:
    """A value of a graph: `sizes` are those behind the first axis, `follows_rows` says whether the first changes with N."""

    name: str
    dtype: np.dtype
    sizes: tuple
    follows_rows: bool

    @property
    def rank(self):
        return 1 + len(self.sizes)

    @property
    def width(self):
        return int(np.prod(self.sizes))


def kind(since=7, any_type=False, wide=False):
    """Registers a kind: the opset that it needs, whether it only moves elements, so that every type will do, and whether
    it mixes only rows of several elements."""

    def register(write):
        KINDS[write.__name__] = Kind(write, since, any_type, wide)
        return write

    return register


def column(b, vector, edge):
    """A vector with a number for each row, shaped to meet the rows of the edge."""
    return b.reshape(vector, -1, *[1] * (edge.rank - 1))


def positions(b, x):
    return b.cast(b.range(b.size(x)))


def row_sums(b, x):
    return b.reduce("Sum", b.flat(x), [1], keep=False)


@kind()
def subtract_mean(b, x, edge):
    return b.op("Sub", x, b.reduce("Mean", x, [0]))


@kind()
def subtract_mean_of_all(b, x, edge):
    return b.op("Sub", x, b.reduce("Mean", x, None))


@kind(since=11)
def cumulative_sum(b, x, edge):
    return b.op("CumSum", x, b.int(0))


@kind()
def times_count(b, x, edge):
    return b.op("Mul", x, b.cast(b.size(x)))


@kind()
def divide_by_count(b, x, edge):
    return b.op("Div", x, b.cast(b.slice(b.op("Shape", x), 0, 1, 0)))


@kind()
def times_size(b, x, edge):
    return b.op("Mul", x, b.cast(b.op("Size", x)))


@kind(since=11)
def add_position(b, x, edge):
    return b.op("Add", x, column(b, positions(b, x), edge))


@kind(since=9)
def add_place_of_nonzero(b, x, edge):
    ones = b.fill(b.slice(b.op("Shape", x), 0, 1, 0), 1)
    places = b.squeeze(b.op("NonZero", ones), [0])
    return b.op("Add", x, column(b, b.cast(places), edge))


@kind(since=10, any_type=True)
def reverse(b, x, edge):
    return b.slice(x, -1, -TO_THE_END, 0, step=-1)


@kind(any_type=True)
def roll(b, x, edge):
    return b.op("Concat", b.slice(x, 1, TO_THE_END, 0), b.slice(x, 0, 1, 0), axis=0)


@kind(since=11, any_type=True)
def gather_reversed(b, x, edge):
    last = b.op("Sub", b.size(x), b.int(1))
    return b.op("Gather", x, b.op("Sub", last, b.range(b.size(x))), axis=0)


@kind(since=8, any_type=True)
def first_row_for_all(b, x, edge):
    return b.op("Expand", b.slice(x, 0, 1, 0), b.op("Shape", x))


@kind(since=11, any_type=True)
def gather_elements_of_first(b, x, edge):
    zeros = b.fill(b.op("Shape", x), 0, np.int64)
    return b.op("GatherElements", x, zeros, axis=0)


@kind(since=13, any_type=True)
def tile_and_slice(b, x, edge):
    twice = b.op("Tile", x, b.ints(2, *[1] * (edge.rank - 1)))
    size = b.slice(b.op("Shape", x), 0, 1, 0)
    return b.op("Slice", twice, b.ints(1), b.op("Add", size, b.ints(1)), b.ints(0))


@kind()
def pad_and_slice(b, x, edge):
    zeros = [0] * (edge.rank - 1)
    return b.slice(b.pad(x, [1, *zeros], [0, *zeros]), 0, -1, 0)


@kind()
def softmax_over_rows(b, x, edge):
    return b.op("Softmax", x, axis=0)


@kind()
def divide_by_maximum(b, x, edge):
    largest = b.reduce("Max", b.op("Abs", x), [0])
    return b.op("Div", x, b.op("Add", largest, b.const(1)))


@kind(since=8)
def maximum_with_all(b, x, edge):
    return b.op("Max", x, b.reduce("Mean", x, [0]))


@kind(since=10)
def sort(b, x, edge):
    return b.top_k(x, b.slice(b.op("Shape", x), 0, 1, 0), 0)[0]


@kind(since=11)
def dynamic_quantize(b, x, edge):
    return b.op("DequantizeLinear", *b.op("DynamicQuantizeLinear", x, outputs=3))


@kind()
def add_row_of_largest(b, x, edge):
    at = b.op("ArgMax", row_sums(b, x), axis=0)
    return b.op("Add", x, b.op("Gather", x, at, axis=0))


@kind(since=8)
def mark_largest(b, x, edge):
    marks = b.op("Equal", x, b.reduce("Max", x, [0])) if b.opset >= 11 else b.op("Less", x, b.reduce("Max", x, [0]))
    return b.op("Add", x, b.cast(marks))


@kind()
def times_own_transpose(b, x, edge):
    flat = b.flat(x)
    similar = b.op("MatMul", flat, b.op("Transpose", flat))
    return b.like(b.op("MatMul", similar, flat), x)


@kind(since=12)
def einsum_over_rows(b, x, edge):
    flat = b.flat(x)
    return b.like(b.op("Einsum", flat, flat, equation="ij,kj->ij"), x)


@kind(since=9)
def matmul_of_ones(b, x, edge):
    count = b.slice(b.op("Shape", x), 0, 1, 0)
    ones = b.fill(b.op("Concat", count, count, axis=0), 1)
    return b.like(b.op("MatMul", ones, b.flat(x)), x)


@kind(wide=True)
def reshape_mixed(b, x, edge):
    flat = b.flat(x)
    rows, width = (b.slice(b.op("Shape", flat), at, at + 1, 0) for at in (0, 1))
    turned = b.op("Reshape", flat, b.op("Concat", width, rows, axis=0))
    return b.like(b.op("Transpose", turned), x)


@kind(since=9)
def add_sum_of_compressed(b, x, edge):
    positive = b.op("Greater", row_sums(b, x), b.const(0))
    return b.op("Add", x, b.reduce("Sum", b.op("Compress", x, positive, axis=0), [0]))


@kind(since=13)
def add_sum_of_nonzero_rows(b, x, edge):
    places = b.squeeze(b.op("NonZero", b.op("Relu", row_sums(b, x))), [0])
    return b.op("Add", x, b.reduce("Sum", b.op("Gather", x, places, axis=0), [0]))


@kind(since=11)
def scatter_onto_first(b, x, edge):
    return b.op("ScatterND", x, b.const([[0]], np.int64), b.slice(x, -1, TO_THE_END, 0))


@kind(since=11)
def scatter_elements_onto_first(b, x, edge):
    first = b.slice(x, 0, 1, 0)
    zeros = b.fill(b.op("Shape", first), 0, np.int64)
    return b.op("ScatterElements", x, zeros, b.op("Neg", b.slice(x, -1, TO_THE_END, 0)), axis=0)


@kind(since=14)
def batch_norm_in_training(b, x, edge):
    flat = b.flat(x)
    width = b.slice(b.op("Shape", flat), 1, 2, 0)
    one, zero = b.fill(width, 1), b.fill(width, 0)
    normal = b.op("BatchNormalization", flat, one, zero, zero, one, outputs=3, training_mode=1)[0]
    return b.like(normal, x)


@kind(since=9)
def mean_variance_normalization(b, x, edge):
    return b.op("MeanVarianceNormalization", x, axes=[0])


@kind()
def lp_normalization(b, x, edge):
    return b.op("LpNormalization", x, axis=0)


@kind(since=17)
def layer_norm_over_all(b, x, edge):
    turned = b.op("Transpose", b.flat(x))
    scale = b.fill(b.slice(b.op("Shape", turned), 1, 2, 0), 1)
    return b.like(b.op("Transpose", b.op("LayerNormalization", turned, scale, axis=1)), x)


@kind(since=14)
def triangle(b, x, edge):
    return b.like(b.op("Trilu", b.flat(x)), x)


@kind(since=9)
def times_eye(b, x, edge):
    flat = b.flat(x)
    return b.like(b.op("Mul", flat, b.op("EyeLike", flat)), x)


@kind(since=11)
def negate_after_first_two(b, x, edge):
    first = b.op("Less", positions(b, x), b.const(2))
    return b.op("Where", column(b, first, edge), x, b.op("Neg", x))


@kind(since=9)
def add_one_hot_of_count(b, x, edge):
    hot = b.op("OneHot", b.int(0), b.slice(b.op("Shape", x), 0, 1, 0), b.const([0, 1]))
    return b.op("Add", x, column(b, hot, edge))


@kind()
def pool_over_rows(b, x, edge):
    turned = b.unsqueeze(b.op("Transpose", b.flat(x)), 0)
    pooled = b.op("MaxPool", turned, kernel_shape=[3], auto_pad="SAME_UPPER", strides=[1])
    return b.like(b.op("Transpose", b.squeeze(pooled, [0])), x)


@kind()
def convolve_over_rows(b, x, edge):
    turned = b.unsqueeze(b.op("Transpose", b.flat(x)), 1)
    weight = b.const([[[0.25, 0.5, 0.25]]])
    smooth = b.op("Conv", turned, weight, kernel_shape=[3], pads=[1, 1])
    return b.like(b.op("Transpose", b.squeeze(smooth, [1])), x)


@kind()
def recurrence_over_rows(b, x, edge):
    width = min(edge.width, 4)
    steps = b.unsqueeze(b.flat(x), 1)
    into, back = (b.const(np.full((1, width, size), 0.1)) for size in (edge.width, width))
    states = b.op("RNN", steps, into, back, outputs=1, hidden_size=width)
    total = b.squeeze(b.reduce("Sum", states, [3]), [1, 2, 3])
    return b.op("Add", x, column(b, total, edge))


@kind(since=11)
def count_of_distinct(b, x, edge):
    distinct = b.op("Unique", x, outputs=1)
    return b.op("Add", x, b.cast(b.size(distinct)))


@kind(since=11)
def random_noise(b, x, edge):
    return b.op("Add", x, b.op("RandomNormalLike", x, dtype=TensorProto.FLOAT))


def branch(b, outer, op_type, *more):
    """A subgraph without inputs that applies an operator to a value of the outer graph."""
    name = b.fresh()
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op_type, [outer, *more], [name])], name, [], [output])


@kind(since=11)
def if_more_than_two(b, x, edge):
    many = b.op("Greater", b.size(x), b.int(2))
    return b.op("If", many, then_branch=branch(b, x, "Neg"), else_branch=branch(b, x, "Identity"))


@kind(since=11)
def if_any_is_large(b, x, edge):
    large = b.op("Greater", b.reduce("Max", b.reshape(x, -1), [0], keep=False), b.const(0.5))
    return b.op("If", large, then_branch=branch(b, x, "Neg"), else_branch=branch(b, x, "Identity"))


@kind(since=11)
def loop_count_times(b, x, edge):
    inner = Builder(b.opset, prefix=f"{b.fresh()}_")
    grown = inner.op("Add", "state", inner.const(1))
    goes_on = inner.op("Identity", "goes_on")
    inputs = [tensor_input("step", np.int64, ()), tensor_input("goes_on", np.bool_, ()), open_float("state")]
    outputs = [tensor_input(goes_on, np.bool_, ()), open_float(grown)]
    body = helper.make_graph(inner.nodes, "body", inputs, outputs, inner.constants)
    return b.op("Loop", b.size(x), "", x, body=body)


@kind(since=11)
def scan_with_sum(b, x, edge):
    inner = Builder(b.opset, prefix=f"{b.fresh()}_")
    total = inner.op("Add", "state", "row")
    row = inner.op("Identity", total)
    body = helper.make_graph(
        inner.nodes, "body", [open_float("state"), open_float("row")], [open_float(total), open_float(row)]
    )
    start = b.op("Mul", b.squeeze(b.slice(x, 0, 1, 0), [0]), b.const(0))
    return b.op("Scan", start, x, outputs=2, body=body, num_scan_inputs=1)[1]


def open_float(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
