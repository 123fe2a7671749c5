"""Tree ensembles as converters write them, and as they might."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper
from support import ML, Json

from families.registry import ALL, FLOATS, GRID, ODD, Draw, Sample, family, label_attribute, sample

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE", "BRANCH_EQ", "BRANCH_NEQ"]
POSTS = ["NONE", "NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]


@dataclass
class Node:
    """A split, or a leaf with its votes."""

    mode: str = "LEAF"
    feature: int = 0
    value: float = 0.0
    tracks: bool = False
    true: int = 0
    false: int = 0
    votes: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Plan:
    """What the trees of one ensemble have in common."""

    features: int
    modes: list[str]
    depth: int
    leaf: float
    tracks: float
    grid: bool
    ids: list[int]
    votes: str
    signs: str

    def drawn_for(self, tree: int) -> list[int]:
        """The classes or targets for which the leaves of a tree vote."""
        return [self.ids[tree % len(self.ids)]] if self.votes == "each" else self.ids


def plan(d: Draw, ids: Sequence[int]) -> Plan:
    """Draws one."""
    modes = d.one(
        [["BRANCH_LEQ"], ["BRANCH_LEQ"], ["BRANCH_LT"], ["BRANCH_GT"], ["BRANCH_GTE"], ["BRANCH_LEQ", "BRANCH_EQ"], MODES]
    )
    large = d.chance(0.06)
    return Plan(
        features=d.one([1, 2, 3, 5, 8, 30]),
        modes=modes,
        depth=d.between(6, 9) if large else d.between(0, 5),
        leaf=0.05 if large else 0.25,
        tracks=d.one([0.0, 0.0, 0.3, 1.0]),
        grid=d.chance(0.6),
        ids=list(ids),
        votes=d.one(["each", "all", "all", "some"]),
        signs=d.one(["positive", "any", "any", "whole"]),
    )


def threshold(d: Draw, shared: Plan) -> float:
    """Where a split is: near the values of the inputs, rarely at the edges of the format."""
    if d.chance(0.03):
        return float(d.floats((1,), level=ALL)[0])
    return d.one(GRID) if shared.grid else float(np.float32(d.rng.standard_normal()))


def weight(d: Draw, shared: Plan) -> float:
    """A vote."""
    if shared.signs == "whole":
        return float(d.between(-2, 3))
    drawn = d.rng.random() if shared.signs == "positive" else d.rng.standard_normal()
    return float(np.float32(drawn * d.one([1, 1, 1, 0.01])))


def leaf(d: Draw, shared: Plan, tree: int) -> Node:
    """A leaf with its votes."""
    ids = shared.drawn_for(tree)
    if shared.votes == "some":
        ids = d.some(ids, d.between(1, len(ids)))
    return Node(votes=[(each, weight(d, shared)) for each in ids])


def grown(d: Draw, shared: Plan, tree: int, nodes: list[Node], depth: int) -> int:
    """Adds a tree below the last node and says where its root is."""
    here = len(nodes)
    if depth == 0 or d.chance(shared.leaf):
        nodes.append(leaf(d, shared, tree))
        return here
    mode = d.one(shared.modes)
    if mode == "BRANCH_EQ" and d.chance(0.5):
        return chain(d, shared, tree, nodes, depth)
    node = Node(mode, d.between(0, shared.features - 1), threshold(d, shared), d.chance(shared.tracks))
    nodes.append(node)
    node.true = grown(d, shared, tree, nodes, depth - 1)
    node.false = grown(d, shared, tree, nodes, depth - 1)
    return here


def chain(d: Draw, shared: Plan, tree: int, nodes: list[Node], depth: int) -> int:
    """A test of membership: equalities on one feature, with one leaf or equal leaves at all their true branches."""
    here = len(nodes)
    feature, tracks, common = d.between(0, shared.features - 1), d.chance(shared.tracks), d.chance(0.5)
    target = leaf(d, shared, tree)
    values = d.some([0.0, 1.0, 2.0, 3.0, 5.0, 31.0, 32.0, 33.0, 70.0, 1.5, -1.0], d.between(2, 5))
    links = [Node("BRANCH_EQ", feature, value, tracks) for value in values]
    for position, link in enumerate(links):
        nodes.append(link)
        if position == 0 or not common:
            link.true = len(nodes)
            nodes.append(Node(votes=list(target.votes)))
        else:
            link.true = links[0].true
        if position + 1 < len(links):
            link.false = len(nodes)
    links[-1].false = grown(d, shared, tree, nodes, depth - 1)
    return here


def ensemble(d: Draw, shared: Plan, prefix: str) -> tuple[dict[str, list[Json]], list[list[Node]]]:
    """The attributes of some trees. Identities and the order of nodes are not always the natural ones."""
    count = d.one([1, 1, 2, 3, 5, 20])
    trees: list[list[Node]] = []
    columns: dict[str, list[Json]] = {}
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    for name in names:
        columns[f"nodes_{name}"] = []
    for name in ("treeids", "nodeids", "ids", "weights"):
        columns[f"{prefix}_{name}"] = []
    gap = d.one([1, 1, 1, 3])
    shuffled = d.chance(0.15)
    for tree in range(count):
        nodes: list[Node] = []
        grown(d, shared, tree, nodes, shared.depth)
        trees.append(nodes)
        order = [0, *(1 + d.rng.permutation(len(nodes) - 1)).tolist()] if shuffled else list(range(len(nodes)))
        named = d.rng.permutation(len(nodes)).tolist() if d.chance(0.1) else list(range(len(nodes)))
        for index in order:
            node = nodes[index]
            row = (
                tree * gap,
                named[index],
                node.feature,
                node.value,
                node.mode,
                named[node.true],
                named[node.false],
                int(node.tracks),
            )
            if node.mode == "LEAF":
                row = (*row[:5], 0, 0, row[7])
            for name, value in zip(names, row, strict=True):
                columns[f"nodes_{name}"].append(value)
            votes = node.votes or ([(shared.ids[0], 9.0)] if d.chance(0.004) else [])
            for each, value in votes:
                for name, part in zip(
                    ("treeids", "nodeids", "ids", "weights"), (tree * gap, named[index], each, value), strict=True
                ):
                    columns[f"{prefix}_{name}"].append(part)
    if not any(columns["nodes_missing_value_tracks_true"]) and d.chance(0.5):
        del columns["nodes_missing_value_tracks_true"]
    if d.chance(0.3):
        columns["nodes_hitrates"] = [1.0] * len(columns["nodes_values"])
    return columns, trees


def as_tensors(columns: dict[str, Json], names: Sequence[str], double: bool) -> None:
    """Moves numbers to the attributes of version 3, which may be doubles."""
    for name in names:
        if name in columns:
            values = columns.pop(name)
            kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
            columns[f"{name}_as_tensor"] = helper.make_tensor(name, kind, [len(values)], values)


def rows(d: Draw, features: int, kind: str, count: int) -> np.ndarray:
    """Inputs that often lie on a threshold."""
    if kind in FLOATS:
        found = d.floats((count, features), kind, ODD)
        if d.chance(0.5):
            found = np.where(d.rng.random(found.shape) < 0.5, d.rng.choice(np.array(GRID), found.shape).astype(kind), found)
        if d.chance(0.15):
            found = d.rng.integers(-1, 75, found.shape).astype(kind)
        return found
    return d.integers((count, features), kind)


def feeds(d: Draw, shared: Plan, kind: str) -> list[dict[str, np.ndarray]]:
    """Batches; the input may have columns that no tree asks for."""
    columns = shared.features + d.one([0, 0, 0, 2])
    if d.chance(0.04):
        return [{"X": rows(d, columns, kind, 1)[0]}]
    return [{"X": rows(d, columns, kind, count)} for count in d.batches()]


def finished(d: Draw, columns: dict[str, Json], prefix: str, kind: str) -> int:
    """The version of ai.onnx.ml, after the numbers have gone where it wants them."""
    double = kind == "float64"
    if not (double or d.chance(0.25)):
        return 1
    if double and d.chance(0.3):
        # Floats beside a double input: what converters wrote before version 3.
        return 1
    as_tensors(columns, ["nodes_values", "nodes_hitrates", f"{prefix}_weights", "base_values"], double)
    return 3


@family(5)
def tree_ensemble_classifier(d: Draw) -> Sample:
    """Two labels have rules of their own, by what is voted for and by the signs of the votes."""
    classes = d.one([2, 2, 2, 3, 3, 4, 7]) if d.chance(0.98) else 1
    # A single label is never given, only 0 and 1; where it is text, the runtime ends.
    labels = d.labels(classes) if classes > 1 else [5]
    ids: Sequence[int] = range(classes)
    if classes == 2:
        ids = d.one([[0], [0], [1], [0, 1]])
        if len(ids) == 2 and d.chance(0.85):
            # Other labels are given back as 0 and 1 there.
            labels = [0, 1]
    elif d.chance(0.1):
        ids = d.some(ids, d.between(1, classes))
    shared = plan(d, ids)
    columns, _ = ensemble(d, shared, "class")
    attributes: dict[str, Json] = dict(columns)
    attributes["post_transform"] = d.one(POSTS)
    if d.chance(0.25):
        attributes["base_values"] = d.weights(1 if classes == 2 and d.chance(0.8) else classes)
    kind = d.one(["float32", "float32", "float32", "float32", "float64", "int64", "int32"])
    attributes |= label_attribute(labels, "classlabels_strings", "classlabels_int64s")
    version = finished(d, attributes, "class", kind)
    wanted = d.one([["label", "scores"]] * 6 + [["label"], ["scores"], ["scores", "label"]])
    asked = feeds(d, shared, kind)
    both = ("label", "scores")
    return sample(d, "TreeEnsembleClassifier", asked, both, wanted=wanted, domain=ML, version=version, attributes=attributes)


@family(4)
def tree_ensemble_regressor(d: Draw) -> Sample:
    """One target or some, and every aggregate."""
    targets = d.one([1, 1, 1, 2, 3])
    shared = plan(d, range(targets) if d.chance(0.9) else d.some(range(targets), d.between(1, targets)))
    columns, _ = ensemble(d, shared, "target")
    attributes: dict[str, Json] = dict(columns)
    attributes |= {"n_targets": targets, "post_transform": d.one([*POSTS, "NONE", "NONE", "PROBIT"])}
    if attributes["post_transform"] == "PROBIT" and d.chance(0.9):
        attributes["post_transform"] = None
    attributes["aggregate_function"] = d.one([None, "SUM", "SUM", "AVERAGE", "MIN", "MAX"])
    if d.chance(0.4):
        attributes["base_values"] = d.weights(targets)
    kind = d.one(["float32", "float32", "float32", "float64"])
    version = finished(d, attributes, "target", kind)
    return sample(d, "TreeEnsembleRegressor", feeds(d, shared, kind), domain=ML, version=version, attributes=attributes)
