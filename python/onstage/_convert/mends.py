"""Mends for faults of the converters. Whatever they do, the comparison has the last word."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

# The estimators of scikit-learn that round their features to float32 before they compare.
ROUNDING = ("sklearn.tree.", "sklearn.ensemble._forest", "sklearn.ensemble._gb", "sklearn.ensemble._iforest")


def zero_as_missing(model: Any) -> bool:
    """Whether LightGBM was told to take zeros for missing values, which its converter does not know."""
    parameters = getattr(getattr(model, "booster_", None), "params", {}) or {}
    return str(parameters.get("zero_as_missing", "")).lower() in ("true", "1")


def rounds(step: Any) -> bool:
    """Whether an estimator rounds its features to float32, as scikit-learn's trees do."""
    return f"{type(step).__module__}.".startswith(ROUNDING)


def rounding(model: Any) -> Any:
    """The model with a rounding to float32 before its trees, for a graph that computes in float64 up to there."""
    from sklearn.pipeline import Pipeline
    from skl2onnx.sklapi import CastTransformer

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
def forests_with_missing_values() -> Iterator[None]:
    """Keeps the way of missing values through scikit-learn's trees, which skl2onnx 1.20 drops."""
    from skl2onnx.operator_converters import decision_tree, gradient_boosting, isolation_forest, random_forest

    modules = [decision_tree, gradient_boosting, isolation_forest, random_forest]
    given = random_forest.add_tree_to_attribute_pairs

    def add_tree(attributes: Any, is_classifier: bool, tree: Any, *rest: Any, **named: Any) -> None:
        given(attributes, is_classifier, tree, *rest, **named)
        left = getattr(tree, "missing_go_to_left", None)
        if left is not None:
            attributes["nodes_missing_value_tracks_true"][-tree.node_count :] = [int(way) for way in left]

    for module in modules:
        module.add_tree_to_attribute_pairs = add_tree
    try:
        yield
    finally:
        for module in modules:
            module.add_tree_to_attribute_pairs = given


def double_trees(model: Any) -> Any:
    """Trees that compare in float64 answer in float32 all the same; what follows them expects float64."""
    import onnx

    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        double = any(attribute.name == "nodes_values_as_tensor" for attribute in node.attribute)
        if not node.op_type.startswith("TreeEnsemble") or not double:
            continue
        at = 1 if node.op_type == "TreeEnsembleClassifier" else 0
        name = node.output[at]
        node.output[at] = f"{name}/float32"
        nodes.append(onnx.helper.make_node("Cast", [node.output[at]], [name], to=onnx.TensorProto.DOUBLE))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
