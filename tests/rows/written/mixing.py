"""Graphs that truly mix rows."""

import numpy as np
from onnx import TensorProto

from graphs import TO_THE_END
from kinds import branch
from written.registry import floats, ids, mixing, texts


def classified(g, x):
    """Two layers before what mixes."""
    hidden = g.op("Relu", g.op("MatMul", x, g.weight(g.sizes(x)[0], 5)))
    return g.op("MatMul", hidden, g.weight(5, 3))


@mixing()
def centred_scores(g):
    scores = classified(g, floats(g, 4))
    return g.op("Sub", scores, g.reduce("Mean", scores, [0]))


@mixing()
def running_total(g):
    return g.op("CumSum", floats(g, 3), g.int(0))


@mixing()
def dynamically_quantized(g):
    x, scale, zero = g.op("DynamicQuantizeLinear", floats(g, 4), outputs=3)
    weight = g.const(g.rng.integers(-9, 9, (4, 3)), np.int8)
    return g.op("Mul", g.cast(g.op("MatMulInteger", x, weight, zero)), scale)


@mixing()
def dynamically_quantized_by_microsoft(g):
    x = floats(g, 4)
    weight = g.const(g.rng.integers(-9, 9, (4, 3)), np.int8)
    return g.op("DynamicQuantizeMatMul", x, weight, g.const(0.1), domain="com.microsoft")


@mixing()
def picked_rows(g):
    """Each row names the row whose values it gets."""
    return g.op("Gather", floats(g, 2), ids(g, limit=1), axis=0)


@mixing()
def picked_rows_within_range(g):
    x, at = floats(g, 2), ids(g)
    return g.op("Gather", x, g.op("Mod", at, g.size(x)), axis=0)


@mixing()
def batch_norm_while_training(g):
    x = classified(g, floats(g, 4))
    one, zero = g.const(np.ones(3)), g.const(np.zeros(3))
    return g.op("BatchNormalization", x, one, zero, zero, one, outputs=3, training_mode=1)[0]


@mixing()
def scaled_by_the_largest(g):
    x = floats(g, 3)
    return g.op("Div", x, g.op("ReduceMax", g.op("Abs", x), keepdims=0))


@mixing()
def every_pair(g):
    """`[N, 1] + [1, N]`"""
    return g.op("Add", floats(g, 1), g.op("Transpose", "x"))


@mixing()
def similarity(g):
    return g.op("MatMul", floats(g, 3), g.op("Transpose", "x"))


@mixing()
def attention_between_rows(g):
    x = floats(g, 4)
    scores = g.op("MatMul", g.op("MatMul", x, g.weight(4, 4)), g.op("Transpose", x))
    return g.op("MatMul", g.op("Softmax", scores, axis=-1), x)


@mixing()
def vector_meets_matrix(g):
    """Runs for one row, and for as many rows as columns."""
    return g.op("Add", floats(g, 3), g.reduce("Sum", "x", [1], keep=False))


@mixing(opset=12)
def softmax_flattened_from_the_front(g):
    return g.op("Softmax", floats(g, 3, 2), axis=0)


@mixing()
def two_rows_as_one(g):
    pairs = g.reshape(floats(g, 3), -1, 6)
    return g.reshape(g.op("Softmax", pairs, axis=1), -1, 3)


@mixing()
def columns_as_rows(g):
    x = floats(g, 3)
    return g.op("Transpose", g.op("Reshape", x, g.shape_of(3, g.size(x))))


@mixing()
def squeezed_to_nothing(g):
    """One row loses its axis."""
    return g.op("Squeeze", g.op("MatMul", floats(g, 4), g.weight(4, 3)))


@mixing()
def normalized_over_all_but_channels(g):
    return g.op("MeanVarianceNormalization", floats(g, 2, 3, 3))


@mixing()
def rows_as_time(g):
    """An LSTM exported without the transpose of `batch_first`."""
    weights = [g.weight(1, 12, 2), g.weight(1, 12, 3)]
    states = g.op("LSTM", floats(g, 1, 2), *weights, hidden_size=3)
    return g.squeeze(states, [1])


@mixing()
def flipped_if_any_is_large(g):
    x = floats(g, 3)
    large = g.op("Greater", g.op("ReduceMax", x, keepdims=0), g.const(1))
    return g.op("If", large, then_branch=branch(g, x, "Neg"), else_branch=branch(g, x, "Abs"))


@mixing()
def alone_or_together(g):
    """Another branch for a single row."""
    x = floats(g, 3)
    one = g.op("Equal", g.size(x), g.int(1))
    return g.op("If", one, then_branch=branch(g, x, "Neg"), else_branch=branch(g, x, "Abs"))


@mixing()
def position_as_feature(g):
    x = floats(g, 3)
    return g.op("Concat", x, g.unsqueeze(g.cast(g.range(g.size(x))), 1), axis=1)


@mixing()
def count_as_feature(g):
    x = floats(g, 3)
    count = g.op("Expand", g.cast(g.size(x)), g.shape_of(g.size(x), 1))
    return g.op("Concat", x, count, axis=1)


@mixing()
def duplicates_removed(g):
    """The number of rows stays if all differ; the order is that of the sorted rows."""
    return g.op("Unique", floats(g, 2), axis=0, sorted=1)


@mixing()
def only_positive_rows(g):
    x = floats(g, 3)
    return g.op("Compress", x, g.op("Greater", g.reduce("Sum", x, [1], keep=False), g.const(0)), axis=0)


@mixing()
def best_rows_first(g):
    x = floats(g, 3)
    order = g.top_k(g.reduce("Sum", x, [1], keep=False), g.slice(g.op("Shape", x), 0, 1, 0), 0)[1]
    return g.op("Gather", x, order, axis=0)


@mixing()
def places_of_the_pool(g):
    """MaxPool's indices count from the first row of the batch."""
    return g.op("MaxPool", floats(g, 1, 4, 4), outputs=2, kernel_shape=[2, 2])


@mixing()
def boxes_suppressed(g):
    boxes = floats(g, 4, 4, name="boxes")
    scores = g.op("Transpose", g.reduce("Mean", boxes, [2]), perm=[0, 2, 1])
    return g.op("NonMaxSuppression", boxes, scores, g.ints(3), g.const([0.5]), g.const([-9]))


@mixing()
def vector_of_norms(g):
    """Normalizer takes a vector for a single row."""
    return g.ml("Normalizer", g.reduce("Sum", floats(g, 3), [1], keep=False), norm="L2")


@mixing()
def vector_of_features(g):
    """LinearRegressor takes a vector for a single row, too."""
    return g.ml("LinearRegressor", floats(g), coefficients=[0.5], intercepts=[0.5])


@mixing()
def dropout_while_training(g):
    return g.op("Dropout", floats(g, 4), g.const(0.5), g.const(True, np.bool_))


@mixing()
def noise(g):
    x = floats(g, 3)
    return g.op("Add", x, g.op("RandomNormalLike", x, dtype=TensorProto.FLOAT))


@mixing()
def tokens_padded_to_the_longest(g):
    tokens = g.op(
        "Tokenizer", texts(g), domain="com.microsoft", mark=0, mincharnum=1, pad_value="#", separators=[" "]
    )  # fmt: skip
    return g.ml("LabelEncoder", tokens, keys_strings=["the", "x"], values_int64s=[1, 2], default_int64=0)


@mixing()
def words_counted_of_all(g):
    """TfIdfVectorizer takes a vector for a single row."""
    counted = {"ngram_counts": [0], "ngram_indexes": [0, 1, 2], "pool_int64s": [0, 1, 2]}
    limits = {"min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0}
    return g.op("TfIdfVectorizer", ids(g), mode="TF", **counted, **limits)


@mixing()
def a_list_of_outputs(g):
    x = floats(g, 3)
    return [g.op("Relu", x), g.op("SplitToSequence", x, axis=0)]


@mixing()
def missing_values_from_the_batch(g):
    """Fills missing values with the mean of the others in the batch: finite rows never show it."""
    x = floats(g, 3)
    missing = g.op("IsNaN", x)
    known = g.op("Where", missing, g.const(0), x)
    count = g.op("Add", g.reduce("Sum", g.cast(g.op("Not", missing)), [0]), g.const(1))
    return g.op("Where", missing, g.op("Div", g.reduce("Sum", known, [0]), count), x)


@mixing()
def same_number_of_rows_in_both(g):
    """A matrix product over the rows of two inputs."""
    product = g.op("MatMul", g.op("Transpose", floats(g, 3)), floats(g, 3, name="y"))
    return g.op("MatMul", "x", product)


@mixing()
def last_row_repeated(g):
    x = floats(g, 3)
    return g.op("Expand", g.slice(x, -1, TO_THE_END, 0), g.op("Shape", x))
