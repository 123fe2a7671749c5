"""Mends for faults of the converters. Whatever they do, the comparison has the last word."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

# The estimators that round their features to float32 before they compare. LightGBM does not, but its converter does.
ROUNDING = (
    "sklearn.tree.",
    "sklearn.ensemble._forest",
    "sklearn.ensemble._gb",
    "sklearn.ensemble._iforest",
    "xgboost.",
    "catboost.",
    "lightgbm.",
)


def zero_as_missing(model: Any) -> bool:
    """Whether LightGBM was told to take zeros for missing values, which its converter does not know."""
    parameters = getattr(getattr(model, "booster_", None), "params", {}) or {}
    return str(parameters.get("zero_as_missing", "")).lower() in ("true", "1")


def is_exponent(model: Any) -> bool:
    """Whether CatBoost's numbers are exponents, which its own export leaves out."""
    loss = str(model.get_all_params().get("loss_function", ""))
    return loss.startswith(("Poisson", "Tweedie"))


def rounds(step: Any) -> bool:
    """Whether an estimator rounds its features to float32, as scikit-learn's trees and the boosting libraries' do."""
    return f"{type(step).__module__}.".startswith(ROUNDING)


def rounding(model: Any) -> Any:
    """The model with a rounding to float32 before its trees, for a graph that computes in float64 up to there."""
    from skl2onnx.sklapi import CastTransformer
    from sklearn.pipeline import Pipeline

    def wrapped(step: Any) -> Any:
        return Pipeline([("round", CastTransformer()), ("trees", step)]) if rounds(step) else rounding(step)

    if isinstance(model, Pipeline):
        found: list[tuple[str, Any]] = []
        for name, step in model.steps:
            if rounds(step):
                found.append((f"round {name}", CastTransformer()))
            found.append((name, rounding(step)))
        return Pipeline(found)
    changed = copy.copy(model)
    if hasattr(model, "final_estimator_"):
        changed.final_estimator_ = wrapped(model.final_estimator_)
    if type(model).__name__.startswith(("Stacking", "Voting")):
        changed.estimators_ = [wrapped(each) for each in model.estimators_]
    if hasattr(model, "calibrated_classifiers_"):
        changed.calibrated_classifiers_ = [copy.copy(each) for each in model.calibrated_classifiers_]
        for each in changed.calibrated_classifiers_:
            each.estimator = wrapped(each.estimator)
    return changed


@contextlib.contextmanager
def exact_trees() -> Iterator[list[list[float]]]:
    """Keeps what skl2onnx 1.20 drops of scikit-learn's trees: the way of missing values through forests.

    Gives a list that will hold the thresholds of each ensemble of histogram boosting in float64.
    """
    from skl2onnx.operator_converters import decision_tree, gradient_boosting, isolation_forest, random_forest

    modules = [decision_tree, gradient_boosting, isolation_forest, random_forest]
    given = random_forest.add_tree_to_attribute_pairs
    given_histogram = random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting
    thresholds: list[list[float]] = []

    def add_tree(attributes: Any, is_classifier: bool, tree: Any, *rest: Any, **named: Any) -> None:
        given(attributes, is_classifier, tree, *rest, **named)
        left = getattr(tree, "missing_go_to_left", None)
        if left is not None:
            attributes["nodes_missing_value_tracks_true"][-tree.node_count :] = [int(way) for way in left]

    def add_histogram(attributes: Any, *rest: Any, **named: Any) -> None:
        given_histogram(attributes, *rest, **named)
        if not any(each is attributes["nodes_values"] for each in thresholds):
            thresholds.append(attributes["nodes_values"])

    for module in modules:
        module.add_tree_to_attribute_pairs = add_tree
    random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting = add_histogram
    try:
        yield thresholds
    finally:
        for module in modules:
            module.add_tree_to_attribute_pairs = given
        random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting = given_histogram


def double_trees(model: Any, thresholds: list[list[float]]) -> Any:
    """Gives histogram boosting its thresholds in float64, and what follows trees the float64 that it expects."""
    import onnx

    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if not node.op_type.startswith("TreeEnsemble"):
            continue
        sharpen(node, thresholds)
        if not any(attribute.name == "nodes_values_as_tensor" for attribute in node.attribute):
            continue
        # Such trees compare in float64 and answer in float32 all the same.
        at = 1 if node.op_type == "TreeEnsembleClassifier" else 0
        name = node.output[at]
        node.output[at] = f"{name}/float32"
        nodes.append(onnx.helper.make_node("Cast", [node.output[at]], [name], to=onnx.TensorProto.DOUBLE))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def sharpen(node: Any, thresholds: list[list[float]]) -> None:
    """Puts the float64 numbers in the place of the float32 ones that were made of them."""
    import numpy as np
    import onnx

    given = next((np.array(a.floats, np.float32) for a in node.attribute if a.name == "nodes_values"), None)
    if given is None:
        return
    exact = next((v for v in thresholds if len(v) == len(given) and np.array_equal(np.array(v).astype(np.float32), given)), None)
    if exact is None:
        return
    changed = []
    for attribute in node.attribute:
        if attribute.type != onnx.AttributeProto.FLOATS:
            changed.append(attribute)
            continue
        values = np.array(exact if attribute.name == "nodes_values" else list(attribute.floats), np.float64)
        changed.append(
            onnx.helper.make_attribute(f"{attribute.name}_as_tensor", onnx.numpy_helper.from_array(values, attribute.name))
        )
    del node.attribute[:]
    node.attribute.extend(changed)
