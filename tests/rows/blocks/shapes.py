"""Operators that change shapes or choose elements behind the rows."""

import numpy as np

from blocks.registry import safe
from graphs import TO_THE_END
from walk import Unfit


@safe()
def flatten(g):
    x = g.rows()
    g.op("Flatten", x, axis=1 - g.rank(x) if g.opset >= 11 and g.rank(x) > 1 and g.maybe() else 1)


@safe()
def reshape_with_zero(g):
    g.reshape(g.rows(), 0, -1)


@safe()
def reshape_to_width(g):
    """Rows from -1, with the whole size of a row spelled out."""
    x = g.rows(least=2)
    g.reshape(x, -1, int(np.prod(g.sizes(x))))


@safe()
def reshape_split(g):
    x = g.rows(least=2)
    last = g.sizes(x)[-1]
    if last % 2:
        raise Unfit("an odd size")
    zeros = [0] * (g.rank(x) - 1)
    g.reshape(x, *g.choice([[*zeros, 2, -1], [-1, *g.sizes(x)[:-1], last // 2, 2]]))


@safe(since=14)
def reshape_where_zero_means_zero(g):
    x = g.rows(least=2)
    g.op("Reshape", x, g.ints(-1, *g.sizes(x)), allowzero=1)


@safe()
def merge_work_and_part(g):
    """Puts time steps beside rows, works on each, and takes them apart again."""
    x = g.rows(rank=3)
    steps, size = g.sizes(x)
    merged = g.op("MatMul", g.reshape(x, -1, size), g.weight(size, 3))
    g.reshape(g.op(g.choice(["Relu", "Tanh", "Softplus"]), merged), -1, steps, 3)


@safe()
def transpose(g):
    x = g.rows(least=3)
    g.op("Transpose", x, perm=[0, *(1 + g.rng.permutation(g.rank(x) - 1))])


@safe()
def there_and_back(g):
    """The rows leave the first axis and return."""
    x = g.rows(rank=3)
    turned = g.op("Relu", g.op("Transpose", x, perm=[1, 0, 2]))
    g.op("Transpose", turned, perm=[1, 0, 2])


@safe()
def unsqueeze(g):
    x = g.rows(most=4)
    g.unsqueeze(x, g.choice([1, g.rank(x)] + [-1] * (g.opset >= 11)))


@safe()
def squeeze(g):
    x = g.rows(least=2)
    ones = [axis for axis, size in enumerate(g.sizes(x), 1) if size == 1]
    if not ones:
        raise Unfit("no axis of size 1")
    g.squeeze(x, [g.choice(ones)])


@safe()
def concat(g):
    x = g.rows(least=2)
    g.op("Concat", x, g.sibling(x), axis=g.axis(x, spelled=g.opset >= 11))


@safe()
def split(g):
    x = g.rows(least=2)
    axis = g.axis(x, spelled=False)
    size = g.sizes(x)[axis - 1]
    if size < 2:
        raise Unfit("nothing to split")
    g.split(x, axis, [1, size - 1])


@safe()
def slice_columns(g):
    x = g.rows(least=2)
    step = g.choice([1, 2, -1]) if g.opset >= 10 else 1
    limits = (-1, -TO_THE_END) if step < 0 else (g.number(0, 1) if g.sizes(x)[-1] > 1 else 0, TO_THE_END)
    g.slice(x, *limits, g.rank(x) - 1, step)


@safe()
def slice_all_rows(g):
    g.slice(g.rows(), 0, TO_THE_END, 0)


@safe()
def pad(g):
    x = g.rows(least=2)
    none = [0] * (g.rank(x) - 1)
    g.pad(x, [*none, 1], [*none, g.number(0, 2)])


@safe()
def tile(g):
    x = g.rows(least=2)
    g.op("Tile", x, g.ints(*[1] * (g.rank(x) - 1), 2))


@safe(since=8)
def expand(g):
    x = g.rows(least=2)
    wide = g.unsqueeze(x, 1)
    g.op("Expand", wide, g.ints(1, 3, *[1] * (g.rank(x) - 1)))


@safe(since=8)
def expand_to_shape_of(g):
    x = g.rows()
    g.op("Mul", x, g.op("Expand", g.const(0.5), g.op("Shape", x)))


@safe(since=9)
def zeros_like(g):
    x = g.rows()
    g.op("Add", x, g.fill(g.op("Shape", x), 0.5))


@safe()
def divide_by_width(g):
    x = g.rows(least=2)
    g.op("Div", x, g.op("Sqrt", g.cast(g.size(x, g.rank(x) - 1))))


@safe()
def gather_columns(g):
    x = g.rows(least=2)
    axis = g.axis(x, spelled=g.opset >= 11)
    size = g.sizes(x)[(axis % g.rank(x)) - 1]
    indices = g.choice([g.int(size - 1), g.ints(0, size - 1), g.const([[0], [size - 1]], np.int64)])
    g.op("Gather", x, indices, axis=axis)


@safe(since=11)
def gather_largest(g):
    x = g.rows(least=2)
    axis = g.axis(x, spelled=False)
    g.op("GatherElements", x, g.op("ArgMax", x, axis=axis), axis=axis)


@safe(since=12)
def gather_within_rows(g):
    """The batch dimension pins the row."""
    x = g.rows(least=3)
    at = g.op("ArgMax", g.reduce("Sum", x, list(range(2, g.rank(x))), keep=False), axis=1)
    g.op("GatherND", x, at, batch_dims=1)


@safe(since=11)
def gather_own_rows(g):
    """`x[arange(N), index]` of torch: positions that only lead back to the row itself."""
    x = g.rows(least=2)
    total = x if g.rank(x) == 2 else g.reduce("Sum", x, list(range(2, g.rank(x))), keep=False)
    at = g.op("ArgMax", total, axis=1)
    own = g.unsqueeze(g.range(g.size(x)), 1)
    g.op("GatherND", x, g.op("Concat", own, at, axis=1))


@safe(since=11)
def scatter_columns(g):
    x = g.rows(least=2)
    axis = g.axis(x, spelled=False)
    at = g.op("ArgMax", x, axis=axis)
    g.op("ScatterElements", x, at, g.op("Neg", g.reduce("Max", x, [axis])), axis=axis)


@safe(since=16)
def scatter_into_zeros(g):
    x = g.rows(rank=2)
    zeros = g.fill(g.op("Shape", x), 0)
    g.op("ScatterElements", zeros, g.op("ArgMax", x, axis=1), g.reduce("Max", x, [1]), axis=1, reduction="add")


@safe(since=13)
def split_equally(g):
    x = g.rows(least=2)
    size = g.sizes(x)[-1]
    if size % 2:
        raise Unfit("an odd size")
    parts = {"num_outputs": 2} if g.opset >= 18 else {}
    g.op("Split", x, outputs=2, axis=-1, **parts)


@safe(since=10)
def reverse_sequence(g):
    x = g.rows(least=2)
    lengths = g.op("Expand", g.ints(g.sizes(x)[0]), g.unsqueeze(g.size(x), 0))
    g.op("ReverseSequence", x, lengths, batch_axis=0, time_axis=1)
