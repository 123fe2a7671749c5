"""Makes the little ONNX models that the tests of the engines run.

Run with Python 3 that has `onnx`: `python tests/models/make.py`. The files are committed; run this again only to change
them.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

HERE = Path(__file__).parent
ML = "ai.onnx.ml"

DTYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "str": TensorProto.STRING,
}


def tensor(name, dtype=TensorProto.FLOAT, shape=("N", 2)):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(name, nodes, inputs, outputs, functions=(), domains=(), initializers=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(
        graph,
        opset_imports=opsets,
        functions=list(functions),
        ir_version=8,
        producer_name="onstage tests",
    )
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


def twice():
    """Each element type: the rows, followed by the same rows."""
    for name, dtype in DTYPES.items():
        node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
        save(f"twice_{name}", [node], [tensor("x", dtype)], [tensor("y", dtype, ("M", 2))])


def classifiers():
    labels = {"two": [0, 1], "three": [0, 1, 2]}
    for name, classes in labels.items():
        node = helper.make_node(
            "TreeEnsembleClassifier",
            ["x"],
            ["label", "scores"],
            domain=ML,
            classlabels_int64s=classes,
            post_transform="NONE",
            nodes_treeids=[0, 0, 0],
            nodes_nodeids=[0, 1, 2],
            nodes_featureids=[0, 0, 0],
            nodes_values=[0.5, 0.0, 0.0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
            nodes_truenodeids=[1, 0, 0],
            nodes_falsenodeids=[2, 0, 0],
            nodes_missing_value_tracks_true=[0, 0, 0],
            nodes_hitrates=[1.0, 1.0, 1.0],
            **leaves(len(classes)),
        )
        save(
            f"trees_{name}_classes",
            [node],
            [tensor("x")],
            [tensor("label", TensorProto.INT64, ("N",)), tensor("scores", shape=("N", len(classes)))],
        )
    linear = {
        "sum": dict(coefficients=[1.0, 2.0], intercepts=[-0.5]),
        "each": dict(coefficients=[-1.0, -2.0, 1.0, 2.0], intercepts=[0.5, -0.5], multi_class=1),
    }
    for name, weights in linear.items():
        node = helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain=ML,
            classlabels_ints=[0, 1],
            post_transform="LOGISTIC",
            **weights,
        )
        save(
            f"linear_{name}",
            [node],
            [tensor("x")],
            [tensor("label", TensorProto.INT64, ("N",)), tensor("scores")],
        )


def leaves(classes):
    if classes == 2:
        return dict(
            class_treeids=[0, 0],
            class_nodeids=[1, 2],
            class_ids=[1, 1],
            class_weights=[0.2, 0.9],
            base_values=[0.0, 0.0],
        )
    return dict(
        class_treeids=[0] * 6,
        class_nodeids=[1, 1, 1, 2, 2, 2],
        class_ids=[0, 1, 2, 0, 1, 2],
        class_weights=[0.7, 0.2, 0.1, 0.1, 0.2, 0.7],
    )


def zip_maps():
    sequence = helper.make_sequence_type_proto(
        helper.make_map_type_proto(
            TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, ())
        )
    )
    node = helper.make_node("ZipMap", ["x"], ["y"], domain=ML, classlabels_strings=["no", "yes"])
    save("zip_map_text", [node], [tensor("x")], [helper.make_value_info("y", sequence)])


def graphs():
    save(
        "passthrough",
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [tensor("x")],
        [tensor("x"), tensor("y")],
    )
    save(
        "any_rank",
        [helper.make_node("Abs", ["x"], ["y"])],
        [tensor("x", shape=None)],
        [tensor("y", shape=None)],
    )
    save(
        "sizes",
        [helper.make_node("Shape", ["x"], ["y"])],
        [tensor("x")],
        [tensor("y", TensorProto.INT64, (2,))],
    )
    save(
        "scalar",
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [tensor("x")],
        [tensor("y", shape=())],
    )
    save(
        "add",
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [tensor("a", shape=("N",)), tensor("b", shape=("N",))],
        [tensor("y", shape=("N",))],
    )
    save(
        "unnamed_dims",
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [tensor("a", shape=(None, 2)), tensor("b", shape=(None, 2))],
        [tensor("y", shape=(None, 2))],
    )
    save(
        "gather",
        [helper.make_node("Gather", ["x", "index"], ["y"], axis=0)],
        [tensor("x"), tensor("index", TensorProto.INT64, ("K",))],
        [tensor("y", shape=("K", 2))],
    )
    save(
        "wrong_output_shape",
        [helper.make_node("Abs", ["x"], ["y"])],
        [tensor("x", shape=("N",))],
        [tensor("y", shape=(1,))],
    )
    branch = lambda op, name: helper.make_graph(
        [helper.make_node(op, ["x"], [name])], name, [], [tensor(name)]
    )
    zero, one = (helper.make_tensor(name, TensorProto.INT64, (), [v]) for name, v in [("z", 0), ("o", 1)])
    save(
        "if_one_row",
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "z"], ["rows"]),
            helper.make_node("Equal", ["rows", "o"], ["is_one"]),
            helper.make_node(
                "If",
                ["is_one"],
                ["y"],
                then_branch=branch("Abs", "yes"),
                else_branch=branch("Neg", "no"),
            ),
        ],
        [tensor("x")],
        [tensor("y")],
        initializers=[zero, one],
    )


def recurrent():
    """An LSTM that reads its sequence from the end, and one that reads it both ways."""
    for direction, ways in {"reverse": 1, "bidirectional": 2}.items():
        weights = [
            helper.make_tensor(name, TensorProto.FLOAT, (ways, 12, size), values(ways * 12 * size))
            for name, size in [("w", 2), ("r", 3)]
        ]
        node = helper.make_node(
            "LSTM", ["x", "w", "r"], ["y"], hidden_size=3, direction=direction
        )
        save(
            f"lstm_{direction}",
            [node],
            [tensor("x", shape=("T", 1, 2))],
            [tensor("y", shape=("T", ways, 1, 3))],
            initializers=weights,
        )


def values(count):
    return [((index * 7) % 11 - 5) / 10 for index in range(count)]


def beyond_tract():
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["state", "state"], ["doubled"]),
        ],
        "body",
        [
            tensor("step", TensorProto.INT64, ()),
            tensor("go", TensorProto.BOOL, ()),
            tensor("state"),
        ],
        [tensor("go_on", TensorProto.BOOL, ()), tensor("doubled")],
    )
    trips = helper.make_tensor("trips", TensorProto.INT64, (), [3])
    save(
        "loop",
        [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)],
        [tensor("x")],
        [tensor("y")],
        initializers=[trips],
    )
    double = helper.make_function(
        "own",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    save(
        "own_function",
        [helper.make_node("Double", ["x"], ["y"], domain="own")],
        [tensor("x")],
        [tensor("y")],
        functions=[double],
        domains=["own"],
    )
    save(
        "other_domain",
        [helper.make_node("Add", ["x", "x"], ["y"], domain="com.example")],
        [tensor("x")],
        [tensor("y")],
        domains=["com.example"],
    )


def log_sum_exp():
    """Its exponentials have no room in single precision; with the axis kept, and without."""
    for name, keep in (("special/logsumexp", 1), ("special/logsumexp_flat", 0)):
        node = helper.make_node("ReduceLogSumExp", ["x"], ["y"], axes=[1], keepdims=keep)
        save(name, [node], [tensor("x", shape=("N", 3))], [tensor("y", shape=("N", 1)[: keep + 1])])


def wide():
    """A hundred numbers between one and one: most of what a run takes is neither input nor output."""
    row = helper.make_tensor("row", TensorProto.FLOAT, (1, 100), [0.01] * 100)
    axes = helper.make_tensor("axes", TensorProto.INT64, (1,), [1])
    nodes = [
        helper.make_node("MatMul", ["x", "row"], ["many"]),
        helper.make_node("ReduceSum", ["many", "axes"], ["y"]),
    ]
    one = ("N", 1)
    save("wide", nodes, [tensor("x", shape=one)], [tensor("y", shape=one)], initializers=[row, axes])


def custom_operators():
    """An operator of the library `onnxruntime-extensions`, which no engine has by itself."""
    node = helper.make_node("StringUpper", ["text"], ["upper"], domain="ai.onnx.contrib")
    text = tensor("text", TensorProto.STRING, ("N",))
    upper = tensor("upper", TensorProto.STRING, ("N",))
    save("string_upper", [node], [text], [upper], domains=("ai.onnx.contrib",))


def other_locale():
    """Lower case in a locale that no system has."""
    node = helper.make_node(
        "StringNormalizer", ["x"], ["y"], case_change_action="LOWER", locale="xx_YY.UTF-8"
    )
    save("other_locale", [node], [tensor("x", TensorProto.STRING, ("N",))], [tensor("y", TensorProto.STRING, ("N",))])


def hard_to_ask():
    """More elements than anybody writes down, and a number of rows that nobody guesses."""
    image = tensor("image", shape=(1, 3, 64, 64))
    mean = helper.make_node("GlobalAveragePool", ["image"], ["mean"])
    save("image", [mean], [image], [tensor("mean", shape=(1, 3, 1, 1))])
    seven = helper.make_tensor("seven", TensorProto.INT64, (1,), [7])
    node = helper.make_node("Reshape", ["x", "seven"], ["y"])
    save("seven_rows", [node], [tensor("x", shape=("N",))], [tensor("y", shape=(7,))], initializers=[seven])


if __name__ == "__main__":
    parts = (twice, classifiers, zip_maps, graphs, recurrent, beyond_tract, log_sum_exp, wide, custom_operators)
    for make in (*parts, other_locale, hard_to_ask):
        make()
