"""Layers of neural networks."""

import numpy as np

from blocks.registry import safe


@safe()
def matmul(g):
    x = g.rows(least=2)
    g.op("MatMul", x, g.weight(g.sizes(x)[-1], g.number(1, 5)))


@safe()
def gemm(g):
    x = g.rows(rank=2)
    size, units, turned = g.sizes(x)[0], g.number(1, 5), g.number(0, 1)
    weight = g.weight(units, size) if turned else g.weight(size, units)
    bias = g.choice([g.weight(units), g.weight(1, units), g.weight(1)])
    g.op("Gemm", x, weight, bias, transB=turned, alpha=0.5)


@safe()
def matmul_within_rows(g):
    x = g.rows(least=3)
    order = [*range(g.rank(x) - 2), g.rank(x) - 1, g.rank(x) - 2]
    g.op("MatMul", x, g.op("Transpose", x, perm=order))


@safe()
def convolution(g):
    x = g.rows(rank=g.choice([3, 4]))
    channels, *places = g.sizes(x)
    kernel = [min(size, g.number(1, 3)) for size in places]
    weight = g.weight(g.number(1, 3), channels, *kernel)
    pads = [g.number(0, 1)] * (2 * len(places))
    g.op("Conv", x, weight, kernel_shape=kernel, pads=pads)


@safe()
def transposed_convolution(g):
    x = g.rows(rank=4)
    g.op("ConvTranspose", x, g.weight(g.sizes(x)[0], 2, 2, 2), strides=[2, 2])


@safe()
def pool(g):
    x = g.rows(rank=g.choice([3, 4]))
    kernel = [min(size, 2) for size in g.sizes(x)[1:]]
    g.op(g.choice(["MaxPool", "AveragePool", "LpPool"]), x, kernel_shape=kernel)


@safe()
def global_pool(g):
    g.op(g.choice(["GlobalAveragePool", "GlobalMaxPool"]), g.rows(rank=g.choice([3, 4])))


@safe()
def batch_norm(g):
    x = g.rows(least=2)
    channels = g.sizes(x)[0]
    spread = g.const(g.rng.uniform(0.5, 2, channels))
    g.op("BatchNormalization", x, g.weight(channels), g.weight(channels), g.weight(channels), spread)


@safe()
def instance_norm(g):
    x = g.rows(least=3)
    channels = g.sizes(x)[0]
    g.op("InstanceNormalization", x, g.weight(channels), g.weight(channels))


@safe()
def local_response(g):
    g.op("LRN", g.rows(rank=4), size=3)


@safe()
def embedding(g):
    ids = g.rows(dtype=np.dtype(np.int64))
    g.op("Gather", g.weight(8, g.number(2, 4)), ids, axis=0)


@safe()
def recurrent(g):
    """Time first, as torch exports a layer with `batch_first`."""
    x = g.rows(rank=3)
    kind, gates = g.choice([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    hidden, both = 3, g.number(1, 2)
    weights = [g.weight(both, gates * hidden, g.sizes(x)[1]), g.weight(both, gates * hidden, hidden)]
    direction = "bidirectional" if both == 2 else g.choice(["forward", "reverse"])
    steps = g.op("Transpose", x, perm=[1, 0, 2])
    states, last = g.op(kind, steps, *weights, outputs=2, hidden_size=hidden, direction=direction)
    if g.maybe():
        g.op("Transpose", last, perm=[1, 0, 2])
    else:
        g.reshape(g.op("Transpose", states, perm=[2, 0, 1, 3]), 0, 0, -1)


@safe(since=10)
def resize(g):
    x = g.rows(rank=4)
    if g.opset < 11:
        g.op("Resize", x, g.const([1, 1, 2, 2]), mode="nearest")
    else:
        g.op("Resize", x, "", g.const([1, 1, 2, 2]), mode=g.choice(["nearest", "linear"]))


@safe()
def space_to_depth(g):
    g.op("SpaceToDepth", g.rows(rank=4), blocksize=2)


@safe(since=13)
def depth_to_space(g):
    x = g.rows(rank=4)
    wide = g.op("Concat", x, x, x, x, axis=1)
    g.op("DepthToSpace", wide, blocksize=2, mode=g.choice(["DCR", "CRD"]))


@safe(since=14)
def triangle(g):
    g.op("Trilu", g.rows(least=3), upper=g.number(0, 1))


@safe(since=18)
def group_norm(g):
    """As torch exports it: groups as channels, and back to the shape that was read before."""
    x = g.rows(rank=4)
    turned = g.reshape(x, 0, 1, -1)
    normal = g.op("InstanceNormalization", turned, g.const([1]), g.const([0]))
    g.op("Reshape", normal, g.op("Shape", x))
