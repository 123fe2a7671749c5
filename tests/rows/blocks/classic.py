"""Operators of ai.onnx.ml, and text."""

import numpy as np

from blocks.registry import safe

TEXT = np.dtype(object)
INTS = np.dtype(np.int64)


@safe()
def scaler(g):
    size = g.sizes(x := g.rows(rank=2))[0]
    g.ml("Scaler", x, offset=g.rng.normal(size=size).tolist(), scale=[0.5] * size)


@safe()
def normalizer(g):
    g.ml("Normalizer", g.rows(rank=2), norm=g.choice(["MAX", "L1", "L2"]))


@safe()
def imputer(g):
    x = g.rows(rank=2)
    g.ml("Imputer", x, imputed_value_floats=[0.5] * g.sizes(x)[0], replaced_value_float=float("nan"))


@safe()
def binarizer(g):
    g.ml("Binarizer", g.rows(rank=2), threshold=0.1)


@safe()
def pick_features(g):
    x = g.rows(rank=2)
    g.ml("ArrayFeatureExtractor", x, g.ints(0, g.sizes(x)[0] - 1))


@safe()
def join_features(g):
    x, y = g.rows(rank=2), g.rows(rank=2)
    g.ml("FeatureVectorizer", x, y, inputdimensions=[g.sizes(x)[0], g.sizes(y)[0]])


@safe()
def encode_labels(g):
    g.ml("LabelEncoder", g.rows(dtype=INTS), keys_int64s=[0, 1, 2], values_floats=[0.5, -1.0, 2.0], default_float=9.0)


@safe()
def encode_texts(g):
    g.ml("LabelEncoder", g.rows(dtype=TEXT), keys_strings=["a", "B"], values_int64s=[1, 2], default_int64=0)


@safe()
def one_hot_of_ids(g):
    g.ml("OneHotEncoder", g.rows(dtype=INTS), cats_int64s=[0, 1, 3], zeros=1)


@safe()
def one_hot_of_texts(g):
    g.ml("OneHotEncoder", g.rows(dtype=TEXT), cats_strings=["a", "abc"], zeros=1)


@safe()
def linear_regressor(g):
    x = g.rows(rank=2)
    targets = g.number(1, 3)
    coefficients = g.rng.normal(size=targets * g.sizes(x)[0]).tolist()
    g.ml("LinearRegressor", x, coefficients=coefficients, intercepts=[0.5] * targets, targets=targets)


@safe()
def linear_classifier(g):
    x = g.rows(rank=2)
    coefficients = g.rng.normal(size=3 * g.sizes(x)[0]).tolist()
    labels = {"classlabels_strings": ["a", "b", "c"]} if g.maybe() else {"classlabels_ints": [0, 1, 2]}
    scores = g.ml(
        "LinearClassifier", x, outputs=2, coefficients=coefficients, intercepts=[0.1, 0.2, 0.3],
        multi_class=1, post_transform=g.choice(["NONE", "SOFTMAX", "LOGISTIC"]), **labels,
    )[1]  # fmt: skip
    if g.maybe(0.3):
        g.ml("ZipMap", scores, classlabels_int64s=[0, 1, 2])


def stumps(g, x):
    """Two trees of one decision each."""
    size = g.sizes(x)[0]
    return {
        "nodes_treeids": [0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2] * 2,
        "nodes_featureids": [0, 0, 0, size - 1, 0, 0],
        "nodes_values": [0.3, 0, 0, -0.4, 0, 0],
        "nodes_modes": [g.choice(["BRANCH_LEQ", "BRANCH_GT"]), "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0] * 2,
        "nodes_falsenodeids": [2, 0, 0] * 2,
        "nodes_missing_value_tracks_true": [g.number(0, 1)] * 6,
    }


@safe()
def tree_regressor(g):
    x = g.rows(rank=2)
    leaves = {"target_treeids": [0, 0, 1, 1], "target_nodeids": [1, 2, 1, 2], "target_ids": [0] * 4}
    weights = {"target_weights": [0.5, -1.0, 2.0, 0.25], "n_targets": 1}
    total = g.choice(["SUM", "AVERAGE", "MAX"])
    g.ml("TreeEnsembleRegressor", x, **stumps(g, x), **leaves, **weights, aggregate_function=total)


@safe()
def tree_classifier(g):
    x = g.rows(rank=2)
    leaves = {"class_treeids": [0, 0, 1, 1], "class_nodeids": [1, 2, 1, 2], "class_ids": [0, 1, 1, 2]}
    weights = {"class_weights": [0.5, 1.0, 2.0, 0.25], "classlabels_int64s": [0, 1, 2]}
    g.ml("TreeEnsembleClassifier", x, outputs=2, **stumps(g, x), **leaves, **weights)


@safe()
def svm_regressor(g):
    x = g.rows(rank=2)
    vectors = g.rng.normal(size=3 * g.sizes(x)[0]).tolist()
    g.ml(
        "SVMRegressor", x, support_vectors=vectors, coefficients=[0.5, -0.5, 1.0], rho=[0.1], n_supports=3,
        kernel_type=g.choice(["RBF", "LINEAR", "POLY"]), kernel_params=[0.5, 1.0, 2.0],
    )  # fmt: skip


@safe()
def svm_classifier(g):
    x = g.rows(rank=2)
    vectors = g.rng.normal(size=4 * g.sizes(x)[0]).tolist()
    g.ml(
        "SVMClassifier", x, outputs=2, support_vectors=vectors, coefficients=[0.5, -0.5, 1.0, -1.0], rho=[0.1],
        vectors_per_class=[2, 2], classlabels_ints=[0, 1], kernel_type="RBF", kernel_params=[0.5, 0.0, 0.0],
    )  # fmt: skip


@safe(since=9)
def count_words_of_ids(g):
    counted = {"ngram_counts": [0, 3], "ngram_indexes": [0, 1, 2, 3], "pool_int64s": [0, 1, 2, 1, 2]}
    limits = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": g.number(0, 1)}
    g.op("TfIdfVectorizer", g.rows(rank=2, dtype=INTS), mode=g.choice(["TF", "IDF", "TFIDF"]), **counted, **limits)


@safe(since=10)
def lower_case(g):
    g.op("StringNormalizer", g.rows(rank=1, dtype=TEXT), case_change_action="LOWER", locale="C.UTF-8")
