"""Operators that work on elements, reduce them, or normalize them."""

import numpy as np
from onnx import TensorProto

from blocks.registry import safe
from walk import Unfit

UNARY = [
    "Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Floor", "Ceil", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign",
    "HardSigmoid", "ThresholdedRelu", "Identity", "Sin", "Cos", "Atan", "Dropout",
]  # fmt: skip
UNARY_SINCE = {"Erf": 9, "Sign": 9, "Round": 11, "Celu": 12, "HardSwish": 14, "Mish": 18, "Gelu": 20}
REDUCTIONS = ["Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"]


@safe()
def unary(g):
    names = UNARY + [name for name, since in UNARY_SINCE.items() if since <= g.opset]
    g.op(g.choice(names), g.rows())


@safe()
def with_constant(g):
    """Broadcasts a constant of any rank up to that of the rows, with ones where it spreads."""
    x = g.rows()
    sizes = g.sizes(x)
    kept = sizes[g.number(0, len(sizes)) :]
    shape = [size if g.maybe(0.7) else 1 for size in kept]
    if g.maybe(0.3):
        shape = [1] * (g.rank(x) - len(shape)) + shape
    constant = g.const(g.rng.uniform(0.5, 1.5, shape))
    name = g.choice(["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu"])
    if name == "Pow":
        x = g.op("Abs", x)
    if name == "PRelu" and len(shape) > g.rank(x):
        raise Unfit("the slope would widen the rows")
    g.op(name, *((constant, x) if name in ("Add", "Sub", "Mul") and g.maybe(0.3) else (x, constant)))


@safe()
def with_sibling(g):
    x = g.rows()
    g.op(g.choice(["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"]), x, g.sibling(x))


@safe()
def with_smaller(g):
    """Meets a value whose axes behind the rows are 1: broadcast along the columns."""
    x = g.rows(least=2)
    axes = list(range(1, g.rank(x)))
    g.op(g.choice(["Sub", "Add", "Mul"]), x, g.reduce(g.choice(REDUCTIONS), x, axes))


@safe()
def reduction(g):
    x = g.rows(least=2)
    axes = sorted({g.axis(x, spelled=False) for _ in range(g.number(1, 2))})
    spelled = [axis - g.rank(x) for axis in axes] if g.maybe(0.3) else axes
    g.reduce(g.choice(REDUCTIONS), x, spelled, keep=g.maybe())


@safe(since=18)
def reduction_without_axes_that_does_nothing(g):
    g.op(f"Reduce{g.choice(['Max', 'Sum'])}", g.rows(), noop_with_empty_axes=1)


@safe()
def softmax(g):
    x = g.rows(least=2)
    axis = g.rank(x) - 1 if g.opset < 13 else g.axis(x)
    g.op(g.choice(["Softmax", "LogSoftmax", "Hardmax"]), x, axis=axis)


@safe()
def softmax_with_the_default_axis(g):
    """Flattens from axis 1 before opset 13, and takes the last axis since."""
    g.op("Softmax", g.rows(least=2))


@safe(since=17)
def layer_norm(g):
    x = g.rows(least=2)
    axis = g.axis(x)
    sizes = g.sizes(x)[(axis % g.rank(x)) - 1 :]
    g.op("LayerNormalization", x, g.weight(*sizes), g.weight(*sizes), axis=axis)


@safe()
def layer_norm_in_parts(g):
    """As older exporters write it."""
    x = g.rows(least=2)
    centred = g.op("Sub", x, g.reduce("Mean", x, [-1] if g.opset >= 11 else [g.rank(x) - 1]))
    variance = g.reduce("Mean", g.op("Mul", centred, centred), [g.rank(x) - 1])
    normal = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-5))))
    g.op("Add", g.op("Mul", normal, g.weight(g.sizes(x)[-1])), g.weight(g.sizes(x)[-1]))


@safe()
def lp_normalization(g):
    x = g.rows(least=2)
    g.op("LpNormalization", x, axis=g.choice([-1, g.axis(x, spelled=False)]), p=g.number(1, 2))


@safe()
def clip(g):
    g.clip(g.rows(), -1.0, 1.5)


@safe(since=11)
def cumulative_sum(g):
    x = g.rows(least=2)
    g.op("CumSum", x, g.int(g.axis(x)), exclusive=g.number(0, 1), reverse=g.number(0, 1))


@safe()
def top_k(g):
    x = g.rows(least=2)
    axis = g.axis(x)
    g.top_k(x, g.number(1, g.sizes(x)[(axis % g.rank(x)) - 1]), axis)


@safe()
def arg_max(g):
    x = g.rows(least=2)
    axis = g.axis(x, spelled=g.opset >= 11)
    index = g.op(g.choice(["ArgMax", "ArgMin"]), x, axis=axis, keepdims=g.number(0, 1))
    if g.maybe():
        g.cast(index)


@safe(since=9)
def where(g):
    x = g.rows()
    condition = g.op(g.choice(["Greater", "Less"]), x, g.const(0))
    other = g.choice([g.const(0), g.op("Neg", x)])
    g.op("Where", condition, x, other)


@safe()
def logic(g):
    x = g.rows()
    one, other = g.op("Greater", x, g.const(-0.5)), g.op("Less", x, g.const(0.5))
    g.cast(g.op("Not", g.op(g.choice(["And", "Or", "Xor"]), one, other)))


@safe()
def cast_and_back(g):
    x = g.rows()
    g.cast(g.cast(x, to=g.choice([TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL])))


@safe()
def fractions_of_indices(g):
    """Integers that take part in arithmetic."""
    ids = g.rows(dtype=np.dtype(np.int64))
    g.op("Mul", g.cast(ids), g.const(0.25))


@safe(since=10)
def quantize(g):
    """With a fixed scale; the sizes of steps are far above rounding."""
    x = g.rows()
    kind = g.choice([np.uint8, np.int8])
    scale, zero = g.const(0.5), g.const(100 if kind is np.uint8 else 3, kind)
    g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero), scale, zero)


@safe(since=13)
def quantize_columns(g):
    x = g.rows(rank=2)
    scale = g.const(g.rng.uniform(0.1, 0.9, g.sizes(x)[0]))
    zero = g.const(np.full(g.sizes(x)[0], 128), np.uint8)
    g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero, axis=1), scale, zero, axis=1)


@safe(since=10)
def quantized_matmul(g):
    x = g.rows(rank=2)
    scale, zero = g.const(0.25), g.const(120, np.uint8)
    weight = g.const(g.rng.integers(-9, 9, (g.sizes(x)[0], 3)), np.int8)
    g.cast(g.op("MatMulInteger", g.op("QuantizeLinear", x, scale, zero), weight, zero))


@safe(since=9)
def one_hot(g):
    ids = g.rows(dtype=np.dtype(np.int64))
    g.op("OneHot", ids, g.int(5), g.const([0, 1]), axis=-1)


@safe(since=9)
def not_a_number(g):
    g.cast(g.op("IsNaN", g.rows()))


@safe(since=12)
def einsum(g):
    x = g.rows(least=2)
    if g.rank(x) == 2:
        g.op("Einsum", x, g.weight(g.sizes(x)[0], 3), equation="bi,ij->bj")
    elif g.rank(x) == 3:
        g.op("Einsum", x, x, equation="bij,bkj->bik")
    else:
        g.op("Einsum", x, equation="...i->...")
