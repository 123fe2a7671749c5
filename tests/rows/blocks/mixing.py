"""Blocks that mix rows, or that an analysis may take for such."""

import numpy as np

from blocks.registry import risky
from graphs import TO_THE_END
from kinds import KINDS, Edge


@risky()
def inserted_kind(g):
    """One of the kinds of mutation."""
    x = g.rows()
    kinds = [kind for kind in KINDS.values() if kind.since <= g.opset]
    g.choice(kinds).write(g, x, Edge(x, np.dtype(np.float32), g.sizes(x), True))


@risky()
def similarity_of_rows(g):
    x = g.rows(rank=2)
    g.op("MatMul", x, g.op("Transpose", x))


@risky()
def against_all_rows(g):
    """`[N, 1] + [1, N]`"""
    x = g.reduce("Sum", g.flat(g.rows()), [1])
    g.reduce("Mean", g.op("Add", x, g.op("Transpose", x)), [1])


@risky()
def rows_inside(g):
    """The axis of the rows moves behind another one."""
    x = g.rows(rank=3)
    g.op("Relu", g.op("Transpose", x, perm=[1, 0, 2]))


@risky()
def merged_across(g):
    """Steps first, then rows, merged into one axis."""
    x = g.rows(rank=3)
    g.reshape(g.op("Transpose", x, perm=[1, 0, 2]), -1, g.sizes(x)[1])


@risky()
def softmax_over_merged(g):
    x = g.rows(rank=3)
    merged = g.reshape(x, -1, g.sizes(x)[1])
    g.reshape(g.op("Softmax", merged, axis=0), -1, *g.sizes(x))


@risky()
def reduction_of_everything(g):
    x = g.rows()
    g.op("Sub", x, g.op(g.choice(["ReduceMean", "ReduceMax", "ReduceMin"]), x, keepdims=g.number(0, 1)))


@risky()
def old_softmax_from_the_front(g):
    g.op("Softmax", g.rows(), axis=0)


@risky()
def squeeze_without_axes(g):
    """Drops the rows when there is one."""
    x = g.rows(least=2)
    g.op("Squeeze", g.op("Add", x, g.const(1)))


@risky()
def doubled_rows(g):
    x = g.rows()
    g.op("Concat", x, g.op("Neg", x), axis=0)


@risky(since=10)
def doubled_and_halved(g):
    """Neutral, but only by arithmetic on the number of rows."""
    x = g.rows()
    both = g.op("Concat", x, g.op("Neg", x), axis=0)
    g.op("Slice", both, g.ints(0), g.slice(g.op("Shape", x), 0, 1, 0), g.ints(0))


@risky()
def rows_as_steps(g):
    """A batch-first model that was exported without its transpose."""
    x = g.rows(rank=3)
    weights = [g.weight(1, 3, g.sizes(x)[1]), g.weight(1, 3, 3)]
    states = g.op("RNN", x, *weights, hidden_size=3)
    g.squeeze(states, [1])


@risky(since=11)
def rows_by_data(g):
    """The largest column of a row chooses another row."""
    x = g.rows(rank=2)
    count = g.size(x)
    at = g.op("Mod", g.op("ArgMax", x, axis=1, keepdims=0), count)
    g.op("Gather", x, at, axis=0)


@risky(since=11)
def constant_row(g):
    x = g.rows()
    g.op("Sub", x, g.op("Gather", x, g.int(0), axis=0))


@risky(since=9)
def places_of_nonzero(g):
    g.cast(g.op("Transpose", g.op("NonZero", g.rows())))


@risky()
def norms_of_a_vector(g):
    """ai.onnx.ml takes a vector for one row."""
    x = g.reduce("Sum", g.flat(g.rows()), [1], keep=False)
    g.reshape(g.ml("Normalizer", x, norm="L2"), -1, 1)


@risky()
def mean_over_last_and_first(g):
    x = g.rows(least=3)
    g.op("Sub", x, g.reduce("Mean", x, [0, g.rank(x) - 1]))


@risky(since=9)
def instance_norm_over_rows(g):
    """Rows as places of one channel."""
    x = g.rows(rank=2)
    turned = g.unsqueeze(g.op("Transpose", x), 0)
    size = g.sizes(x)[0]
    normal = g.op("InstanceNormalization", turned, g.const(np.ones(size)), g.const(np.zeros(size)))
    g.op("Transpose", g.squeeze(normal, [0]))


@risky(since=10)
def all_but_the_last(g):
    g.slice(g.rows(), 0, -1, 0)


@risky(since=10)
def every_row_by_step(g):
    g.slice(g.rows(), 0, TO_THE_END, 0, step=g.choice([1, 2]))
