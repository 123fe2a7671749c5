"""The tree ensemble of ai.onnx.ml 5, which holds leaves apart from splits and knows sets."""

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper
from support import ML, Json

from families.registry import ODD, Draw, Sample, family, sample
from families.trees import Plan, feeds, plan, threshold, weight

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
MODES = [[LEQ], [LEQ], [LT], [GTE], [GT], [LEQ, MEMBER], [EQ, NEQ], [LEQ, LT, GTE, GT, EQ, NEQ, MEMBER]]


@dataclass
class Arrays:
    """The attributes while they grow."""

    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    tracks: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    true_leaf: list[int] = field(default_factory=list)
    false_leaf: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


def leaf(d: Draw, shared: Plan, into: Arrays) -> int:
    """Adds a leaf and says where."""
    into.targets.append(d.one(shared.ids))
    into.weights.append(weight(d, shared))
    return len(into.weights) - 1


def split(d: Draw, shared: Plan, into: Arrays, modes: list[int], depth: int) -> int:
    """Adds a split with what is below it and says where."""
    here = len(into.splits)
    mode = d.one(modes)
    into.features.append(d.between(0, shared.features - 1))
    into.splits.append(threshold(d, shared))
    into.modes.append(mode)
    into.tracks.append(int(d.chance(shared.tracks)))
    if mode == MEMBER:
        into.splits[here] = 0.0
        into.members += [*d.some([0.0, 1.0, 2.0, 3.0, 31.0, 32.0, 33.0, -1.0, 70.0], d.between(1, 4)), float("nan")]
        if d.chance(0.02):
            # ONNX Runtime knows sets of whole numbers only.
            into.members[-2] = 0.5
    for column in (into.true, into.false, into.true_leaf, into.false_leaf):
        column.append(0)
    if depth == 0 and d.chance(0.1):
        # A tree of one leaf: both branches name it.
        only = leaf(d, shared, into)
        into.true[here], into.false[here], into.true_leaf[here], into.false_leaf[here] = only, only, 1, 1
        return here
    for branch, flag in ((into.true, into.true_leaf), (into.false, into.false_leaf)):
        if depth == 0 or d.chance(shared.leaf):
            flag[here] = 1
            branch[here] = leaf(d, shared, into)
        else:
            branch[here] = split(d, shared, into, modes, depth - 1)
    return here


@family(2.5)
def tree_ensemble(d: Draw) -> Sample:
    """Floats and doubles, all comparisons, aggregates and post-transforms."""
    targets = d.one([1, 1, 2, 3])
    shared = plan(d, range(targets))
    modes, into = d.one(MODES), Arrays()
    roots = [split(d, shared, into, modes, shared.depth) for _ in range(d.one([1, 1, 2, 3, 5]))]
    kind = d.one(["float32", "float32", "float64"])
    element = TensorProto.DOUBLE if kind == "float64" else TensorProto.FLOAT

    def tensor(name: str, values: list[float]) -> Json:
        return helper.make_tensor(name, element, [len(values)], values)

    attributes: dict[str, Json] = {
        "tree_roots": roots,
        "n_targets": targets,
        "nodes_featureids": into.features,
        "nodes_splits": tensor("nodes_splits", into.splits),
        "nodes_modes": helper.make_tensor("nodes_modes", TensorProto.UINT8, [len(into.modes)], into.modes),
        "nodes_truenodeids": into.true,
        "nodes_falsenodeids": into.false,
        "nodes_trueleafs": into.true_leaf,
        "nodes_falseleafs": into.false_leaf,
        "leaf_targetids": into.targets,
        "leaf_weights": tensor("leaf_weights", into.weights),
        "aggregate_function": d.one([None, 1, 1, 0, 2, 3]),
        "post_transform": d.one([None, None, 0, 1, 2, 3]),
    }
    if any(into.tracks) or d.chance(0.2):
        attributes["nodes_missing_value_tracks_true"] = into.tracks
    if into.members:
        attributes["membership_values"] = tensor("membership_values", into.members)
    asked = feeds(d, shared, kind)
    if into.members:
        for feed in asked:
            whole = d.rng.integers(-1, 34, feed["X"].shape).astype(kind)
            feed["X"] = np.where(d.rng.random(whole.shape) < 0.6, whole, d.floats(whole.shape, kind, ODD)).astype(kind)
    return sample(d, "TreeEnsemble", asked, domain=ML, version=5, attributes=attributes)
