"""What torch's exporter writes: sizes read with Shape and Gather, joined with Concat, and given to Reshape or Expand."""

import numpy as np

from blocks.registry import safe
from walk import Unfit


@safe()
def view_of_size(g):
    """`x.view(x.size(0), -1)`"""
    x = g.rows(least=2)
    g.view(x, g.size(x), -1)


@safe()
def view_with_computed_width(g):
    """`x.view(x.size(0), x.size(1) * x.size(2))`"""
    x = g.rows(rank=3)
    g.view(x, g.size(x), g.op("Mul", g.size(x, 1), g.size(x, 2)))


@safe()
def view_by_slice_of_shape(g):
    x = g.rows(least=3)
    front = g.slice(g.op("Shape", x), 0, 1, 0)
    g.op("Reshape", x, g.op("Concat", front, g.ints(-1), axis=0))


@safe()
def split_heads(g):
    """`x.view(n, t, heads, -1).transpose(1, 2)`"""
    x = g.rows(rank=3)
    if g.sizes(x)[1] % 2:
        raise Unfit("an odd size")
    g.op("Transpose", g.view(x, g.size(x), g.size(x, 1), 2, -1), perm=[0, 2, 1, 3])


@safe()
def attention(g):
    """Multi-head attention with a mask or without, its reshapes by the sizes of the input."""
    x = g.rows(rank=3)
    width, heads = g.sizes(x)[1], 2

    def projected(order):
        y = g.op("Add", g.op("MatMul", x, g.weight(width, 4)), g.weight(4))
        return g.op("Transpose", g.view(y, g.size(x), g.size(x, 1), heads, 2), perm=order)

    scores = g.op("MatMul", projected([0, 2, 1, 3]), projected([0, 2, 3, 1]))
    scores = g.op("Div", scores, g.const(np.sqrt(2)))
    if g.maybe() and g.opset >= 14:
        steps = g.sizes(x)[0]
        scores = g.op("Add", scores, g.op("Trilu", g.const(np.full((steps, steps), -1e4)), g.int(1), upper=1))
    weights = g.op("Softmax", scores, axis=3)
    joined = g.op("Transpose", g.op("MatMul", weights, projected([0, 2, 1, 3])), perm=[0, 2, 1, 3])
    joined = g.view(joined, g.size(x), g.size(x, 1), 4)
    g.op("MatMul", joined, g.weight(4, width))


@safe()
def masked_attention_scores(g):
    """A mask of tokens becomes large negative scores, as in transformers."""
    ids = g.rows(rank=2, dtype=np.dtype(np.int64))
    mask = g.cast(g.op("Greater", g.cast(ids), g.const(1)))
    wide = g.unsqueeze(g.unsqueeze(mask, 1), 2)
    penalty = g.op("Mul", g.op("Sub", g.const(1), wide), g.const(-1e4))
    hidden = g.op("Gather", g.weight(8, 4), ids, axis=0)
    scores = g.unsqueeze(g.op("MatMul", hidden, g.op("Transpose", hidden, perm=[0, 2, 1])), 1)
    g.op("Softmax", g.op("Add", scores, penalty), axis=3)


@safe()
def masked_mean(g):
    """The sentence embedding: a mean over the tokens that count."""
    ids = g.rows(rank=2, dtype=np.dtype(np.int64))
    hidden = g.op("Gather", g.weight(8, 4), ids, axis=0)
    mask = g.unsqueeze(g.cast(g.op("Greater", g.cast(ids), g.const(0))), 2)
    total = g.reduce("Sum", g.op("Mul", hidden, mask), [1], keep=False)
    g.op("Div", total, g.clip(g.reduce("Sum", mask, [1], keep=False), 1e-9, 1e9))


@safe()
def first_token(g):
    g.op("Gather", g.rows(least=3), g.int(0), axis=1)


@safe(since=11)
def positions_of_steps(g):
    """Position embeddings, from the number of steps."""
    x = g.rows(rank=3)
    table = g.weight(16, g.sizes(x)[1])
    g.op("Add", x, g.op("Gather", table, g.range(g.size(x, 1)), axis=0))


@safe(since=8)
def class_token(g):
    """`self.token.expand(x.size(0), -1, -1)` before the patches of an image."""
    x = g.rows(rank=3)
    token = g.op("Expand", g.weight(1, 1, g.sizes(x)[1]), g.shape_of(g.size(x), 1, g.sizes(x)[1]))
    g.op("Concat", token, x, axis=1)


@safe()
def repeat_for_rows(g):
    """`self.weight.repeat(x.size(0), 1)`"""
    x = g.rows(rank=2)
    g.op("Mul", x, g.op("Tile", g.weight(1, g.sizes(x)[0]), g.shape_of(g.size(x), 1)))


@safe()
def patches(g):
    """The stem of a vision transformer: Conv, then the places of the image as steps."""
    x = g.rows(rank=4)
    channels, height, width = g.sizes(x)
    side = min(2, height, width)
    y = g.op("Conv", x, g.weight(4, channels, side, side), strides=[side, side])
    g.op("Transpose", g.view(y, g.size(y), 4, -1), perm=[0, 2, 1])


@safe(since=9)
def lstm_from_zeros(g):
    """The first state of an LSTM, made of zeros for each row."""
    x = g.rows(rank=3)
    steps = g.op("Transpose", x, perm=[1, 0, 2])
    zeros = g.fill(g.shape_of(1, g.size(steps, 1), 3), 0)
    weights = [g.weight(1, 12, g.sizes(x)[1]), g.weight(1, 12, 3)]
    last = g.op("LSTM", steps, *weights, "", "", zeros, zeros, outputs=2, hidden_size=3)[1]
    g.squeeze(last, [0])


@safe()
def outer_product(g):
    """`x.unsqueeze(2) * x.unsqueeze(1)`"""
    x = g.rows(rank=2)
    g.op("Mul", g.unsqueeze(x, 2), g.unsqueeze(x, 1))


@safe()
def upper_pairs(g):
    """Dot products of a row's fields, as recommenders compute them."""
    x = g.rows(rank=3)
    if g.sizes(x)[0] < 2:
        raise Unfit("one field")
    products = g.op("MatMul", x, g.op("Transpose", x, perm=[0, 2, 1]))
    g.op("Gather", g.view(products, g.size(x), -1), g.ints(1, g.sizes(x)[0]), axis=1)


@safe(since=9)
def gelu(g):
    x = g.rows()
    grown = g.op("Add", g.op("Erf", g.op("Div", x, g.const(np.sqrt(2)))), g.const(1))
    g.op("Mul", g.op("Mul", x, grown), g.const(0.5))
