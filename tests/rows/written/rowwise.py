"""Graphs that never mix rows, in the forms that exporters write."""

import numpy as np

from written.registry import floats, ids, rowwise


@rowwise()
def perceptron(g):
    x = g.op("Relu", g.op("Gemm", floats(g, 4), g.weight(4, 5), g.weight(5)))
    return g.op("Softmax", g.op("Gemm", x, g.weight(5, 3), g.weight(3)), axis=-1)


@rowwise()
def convnet(g):
    x = g.op("Relu", g.op("Conv", floats(g, 1, 8, 8), g.weight(3, 1, 3, 3), g.weight(3), pads=[1, 1, 1, 1]))
    x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    spread = g.const([0.5, 1, 2])
    x = g.op("BatchNormalization", x, g.weight(3), g.weight(3), g.weight(3), spread)
    x = g.view(x, g.size(x), -1)
    return g.op("Gemm", x, g.weight(48, 5), g.weight(5))


def encoder_layer(g, x, steps, width, heads):
    """A layer of a transformer as torch exports it, with every size read from the input."""

    def projected(order):
        y = g.op("Add", g.op("MatMul", x, g.weight(width, width)), g.weight(width))
        return g.op("Transpose", g.view(y, g.size(x), g.size(x, 1), heads, width // heads), perm=order)

    scores = g.op("MatMul", projected([0, 2, 1, 3]), projected([0, 2, 3, 1]))
    scores = g.op("Add", g.op("Div", scores, g.const(np.sqrt(width // heads))), steps)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), projected([0, 2, 1, 3]))
    mixed = g.view(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), g.size(x), g.size(x, 1), width)
    x = g.op("LayerNormalization", g.op("Add", x, mixed), g.weight(width), g.weight(width))
    hidden = g.op("MatMul", x, g.weight(width, 2 * width))
    hidden = g.op("Mul", hidden, g.op("Sigmoid", hidden))
    return g.op("Add", x, g.op("MatMul", hidden, g.weight(2 * width, width)))


@rowwise()
def text_transformer(g):
    """Token ids and a mask to a sentence embedding."""
    tokens, mask = ids(g, 5, name="input_ids"), ids(g, 5, name="attention_mask", limit=2)
    places = g.range(g.size(tokens, 1))
    x = g.op("Add", g.op("Gather", g.weight(4, 4), tokens), g.op("Gather", g.weight(9, 4), places))
    shown = g.cast(mask)
    hidden = g.op("Mul", g.op("Sub", g.const(1), g.unsqueeze(g.unsqueeze(shown, 1), 2)), g.const(-1e4))
    for _ in range(2):
        x = encoder_layer(g, x, hidden, 4, 2)
    shown = g.op("Expand", g.unsqueeze(shown, -1), g.op("Shape", x))
    total = g.reduce("Sum", g.op("Mul", x, shown), [1], keep=False)
    mean = g.op("Div", total, g.clip(g.reduce("Sum", shown, [1], keep=False), 1e-9, 1e9))
    return g.op("Div", mean, g.op("Max", g.reduce("L2", mean, [1]), g.const(1e-6)))


@rowwise()
def image_transformer(g):
    x = g.op("Conv", floats(g, 3, 4, 4, name="pixel_values"), g.weight(4, 3, 2, 2), strides=[2, 2])
    x = g.op("Transpose", g.view(x, g.size(x), 4, -1), perm=[0, 2, 1])
    token = g.op("Expand", g.weight(1, 1, 4), g.shape_of(g.size(x), 1, 4))
    x = g.op("Add", g.op("Concat", token, x, axis=1), g.weight(1, 5, 4))
    x = encoder_layer(g, x, g.const(0), 4, 2)
    return g.op("MatMul", g.op("Gather", x, g.int(0), axis=1), g.weight(4, 3))


@rowwise()
def lstm_with_batch_first(g):
    steps = g.op("Transpose", floats(g, 4, 2), perm=[1, 0, 2])
    zeros = g.fill(g.shape_of(1, g.size(steps, 1), 3), 0)
    weights = [g.weight(1, 12, 2), g.weight(1, 12, 3)]
    states = g.op("LSTM", steps, *weights, "", "", zeros, zeros, hidden_size=3)
    states = g.op("Transpose", g.squeeze(states, [1]), perm=[1, 0, 2])
    return g.op("MatMul", g.op("Gather", states, g.int(-1), axis=1), g.weight(3, 2))


@rowwise()
def merged_steps(g):
    """`x.view(-1, 3)`, a layer, and back: the time-distributed layer of Keras."""
    x = floats(g, 4, 3)
    y = g.op("Gemm", g.reshape(x, -1, 3), g.weight(3, 2), g.weight(2))
    return g.view(y, g.size(x), 4, 2)


@rowwise()
def two_towers(g):
    user = g.op("Relu", g.op("MatMul", floats(g, 4, name="user"), g.weight(4, 3)))
    item = g.op("Relu", g.op("MatMul", floats(g, 5, name="item"), g.weight(5, 3)))
    return g.reduce("Sum", g.op("Mul", user, item), [1])


@rowwise()
def wide_and_deep(g):
    crossed = g.op("Gather", g.weight(4, 3), ids(g, 2))
    x = g.op("Concat", floats(g, 4), g.view(crossed, g.size(crossed), -1), axis=1)
    return g.op("Sigmoid", g.op("Gemm", x, g.weight(10, 1), g.weight(1)))


@rowwise()
def last_token_by_length(g):
    """`x[arange(N), lengths]`"""
    x, at = floats(g, 4, 3), ids(g, name="last")
    own = g.range(g.size(x))
    return g.op("GatherND", x, g.op("Concat", g.unsqueeze(own, 1), g.unsqueeze(at, 1), axis=1))


@rowwise()
def nearest_neighbours(g):
    """Distances to a table that is part of the model."""
    x = floats(g, 3)
    gaps = g.op("Sub", g.unsqueeze(x, 1), g.weight(1, 6, 3))
    nearest = g.top_k(g.op("Neg", g.reduce("SumSquare", gaps, [2], keep=False)), 3, 1)[1]
    return g.reduce("Mean", g.op("Gather", g.weight(6), nearest), [1])


@rowwise()
def text_labels(g):
    x = floats(g, 3)
    labels = g.const(["no", "maybe", "yes"], object)
    best = g.op("ArgMax", g.op("MatMul", x, g.weight(3, 3)), axis=1, keepdims=0)
    return g.op("Gather", labels, best)


@rowwise(opset=12)
def old_softmax_within_rows(g):
    return g.op("Softmax", floats(g, 3, 2))


@rowwise(opset=12)
def squeezed_column(g):
    return g.op("Sigmoid", g.squeeze(g.op("MatMul", floats(g, 3), g.weight(3, 1)), [1]))
