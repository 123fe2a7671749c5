"""Small graphs in which several operators meet, as they do in converted pipelines."""

import numpy as np
from onnx import TensorProto, helper
from support import ML, Feed, Json, constant, graph, tensor_info, untyped

from families.registry import CALM, ODD, WORDS, Draw, Sample, family, label_attribute, words
from families.texts import SENTENCES
from families.trees import ensemble, plan


class Builder:
    """Collects nodes and held values; each call gives the name of what it makes."""

    def __init__(self) -> None:
        self.nodes: list[Json] = []
        self.held: list[Json] = []
        self.count = 0

    def fresh(self) -> str:
        """A name that is not in use."""
        self.count += 1
        return f"v{self.count}"

    def hold(self, array: np.ndarray) -> str:
        """A held value."""
        name = self.fresh()
        self.held.append(constant(name, array))
        return name

    def add(self, op: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Json) -> list[str]:
        """A node and the names of its outputs."""
        names = [self.fresh() for _ in range(outputs)]
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, list(inputs), names, domain=domain, **given))
        return names

    def one(self, op: str, *inputs: str, domain: str = "", **attributes: Json) -> str:
        """A node with one output."""
        return self.add(op, *inputs, domain=domain, **attributes)[0]

    def built(self, inputs: list[Json], outputs: list[str], feeds: list[Feed], versions: dict[str, int] | None = None) -> Sample:
        """The graph."""
        return Sample(graph(self.nodes, inputs, [untyped(each) for each in outputs], self.held, versions), feeds)


@family(3)
def columns(d: Draw) -> Sample:
    """Columns of text and of numbers, encoded, joined, and given to a model, whose scores may become maps."""
    b, numbers = Builder(), d.between(1, 3)
    cats = d.some(WORDS, d.between(2, 4))
    coded = b.one("OneHotEncoder", "c", domain=ML, cats_strings=cats, zeros=1)
    coded = b.one("Reshape", coded, b.hold(np.array([-1, len(cats)])))
    filled = b.one("Imputer", "x", domain=ML, imputed_value_floats=d.weights(numbers), replaced_value_float=float("nan"))
    scaled = b.one("Scaler", filled, domain=ML, offset=d.weights(numbers), scale=d.weights(numbers))
    width, classes = len(cats) + numbers, d.between(2, 3)
    joined = b.one("Concat", coded, scaled, axis=1) if d.chance(0.8) else b.one("Concat", coded, scaled, axis=-1)
    labels = d.labels(classes)
    named = label_attribute(labels, "classlabels_strings", "classlabels_int64s")
    if d.chance(0.5):
        rows = 1 if classes == 2 else classes
        attributes: dict[str, Json] = {"coefficients": d.weights(rows * width), "intercepts": d.weights(rows)}
        attributes |= {"post_transform": "LOGISTIC" if rows == 1 else d.one(["SOFTMAX", "LOGISTIC", "NONE"])}
        label, scores = b.add(
            "LinearClassifier",
            joined,
            domain=ML,
            outputs=2,
            **attributes,
            **label_attribute(labels, "classlabels_strings", "classlabels_ints"),
        )
        if d.chance(0.5):
            scores = b.one("Normalizer", scores, domain=ML, norm="L1")
    else:
        shared = plan(d, [0] if classes == 2 else range(classes))
        shared.features = width
        built, _ = ensemble(d, shared, "class")
        label, scores = b.add("TreeEnsembleClassifier", joined, domain=ML, outputs=2, post_transform="LOGISTIC", **built, **named)
    if d.chance(0.5):
        scores = b.one("ZipMap", scores, domain=ML, **named)
    feeds = []
    for rows in d.batches():
        feeds.append({"c": d.strings((rows, 1), [*cats, "other"]), "x": d.floats((rows, numbers), level=ODD)})
    inputs = [tensor_info("c", "str", [None, 1]), tensor_info("x", "float32", [None, numbers])]
    return b.built(inputs, [label, scores], feeds)


@family(2)
def logits(d: Draw) -> Sample:
    """A product, a bias, probabilities and the name of the winner."""
    b, features, classes = Builder(), d.between(1, 5), d.between(1, 4)
    scores = b.one("MatMul", "X", b.hold(d.floats((features, classes), level=CALM)))
    scores = b.one("Add", scores, b.hold(d.floats(d.one([(classes,), (1, classes)]), level=CALM)))
    if classes == 1:
        chance = b.one("Sigmoid", scores)
        rest = b.one("Sub", b.hold(np.array([1], np.float32)), chance)
        found, classes = b.one("Concat", rest, chance, axis=1), 2
    elif d.chance(0.5):
        top = b.one("ReduceMax", scores, axes=[1], keepdims=1)
        powers = b.one("Exp", b.one("Sub", scores, top))
        found = b.one("Div", powers, b.one("ReduceSum", powers, b.hold(np.array([1])), keepdims=1))
    else:
        found = b.one("Softmax", scores, axis=d.one([1, -1]))
    best = b.one("ArgMax", found, axis=1, keepdims=d.one([0, 1]))
    labels = d.labels(classes)
    held = words([str(each) for each in labels]) if isinstance(labels[0], str) else np.array(labels)
    named = b.one("ArrayFeatureExtractor", b.hold(held), best, domain=ML)
    outputs = [named, found]
    if d.chance(0.6):
        outputs[0] = b.one("Reshape", named, b.hold(np.array([-1])))
    if not isinstance(labels[0], str) and d.chance(0.4):
        outputs[0] = b.one("Cast", outputs[0], to=TensorProto.INT64)
    feeds: list[Feed] = [{"X": d.floats((rows, features), level=ODD if d.chance(0.2) else CALM)} for rows in d.batches()]
    return b.built([tensor_info("X", "float32", [None, features])], outputs, feeds)


@family(3)
def chain(d: Draw) -> Sample:
    """Some steps over a matrix, each of which takes what any earlier one made."""
    b, width = Builder(), d.between(1, 4)
    made = ["X"]
    for _ in range(d.between(2, 7)):
        first, second = d.one(made), d.one(made)
        step = d.between(0, 9)
        if step == 0:
            made.append(b.one(d.one(["Add", "Sub", "Mul", "Max", "Min", "Sum"]), first, second))
        elif step == 1:
            made.append(b.one(d.one(["Abs", "Neg", "Sign", "Sigmoid", "Tanh", "Relu", "Floor"]), first))
        elif step == 2:
            made.append(b.one("Where", b.one(d.one(["Less", "Greater", "Equal"]), first, second), second, first))
        elif step == 3:
            made.append(b.one("Scaler", first, domain=ML, offset=d.weights(width), scale=d.weights(width)))
        elif step == 4:
            made.append(b.one("Normalizer", first, domain=ML, norm=d.one(["L1", "L2", "MAX"])))
        elif step == 5:
            made.append(b.one("MatMul", first, b.hold(d.floats((width, width), level=CALM))))
        elif step == 6:
            middle = b.one("Cast", first, to=d.one([TensorProto.DOUBLE, TensorProto.FLOAT]))
            made.append(b.one("Cast", middle, to=TensorProto.FLOAT))
        elif step == 7:
            order = d.rng.integers(0, width, width)
            made.append(b.one("ArrayFeatureExtractor", first, b.hold(order), domain=ML))
        elif step == 8:
            parts = [b.one("ArrayFeatureExtractor", first, b.hold(np.array([column])), domain=ML) for column in range(width)]
            made.append(b.one("Concat", *parts, axis=1))
        else:
            made.append(b.one("Mul", first, b.one("Cast", b.one("Not", b.one("Less", first, second)), to=TensorProto.FLOAT)))
    feeds: list[Feed] = [{"X": d.floats((rows, width), level=CALM)} for rows in d.batches()]
    # Every tensor that nothing takes is an answer, and one that something takes is too.
    outputs = sorted({made[-1], d.one(made[1:])})
    return b.built([tensor_info("X", "float32", [None, width])], outputs, feeds)


@family(2)
def document(d: Draw) -> Sample:
    """Text to counts to a linear model."""
    b = Builder()
    lower = b.one("StringNormalizer", "X", case_change_action="LOWER", is_case_sensitive=0)
    tokens = b.one(
        "Tokenizer",
        lower,
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value="#",
        tokenexp=d.one(["[a-zA-Z0-9_]+", "[a-z]+"]),
    )
    tokens = b.one("Flatten", tokens) if d.chance(0.5) else tokens
    pool = d.some(["the", "cat", "sat", "hat", "a", "one", "two", "b", "text"], d.between(2, 6))
    counts = b.one(
        "TfIdfVectorizer",
        tokens,
        mode="TF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        ngram_counts=[0],
        ngram_indexes=list(range(len(pool))),
        pool_strings=pool,
        weights=[1.0] * len(pool),
    )
    outputs = [counts]
    if d.chance(0.7):
        scaled = b.one("Mul", counts, b.hold(d.floats((1, len(pool)), level=CALM)))
        scaled = b.one("Normalizer", scaled, domain=ML, norm="L2")
        scores = b.one(
            "Add", b.one("MatMul", scaled, b.hold(d.floats((len(pool), 2), level=CALM))), b.hold(d.floats((2,), level=CALM))
        )
        outputs = [scaled, b.one("ArgMax", scores, axis=1)]
    feeds: list[Feed] = [{"X": d.strings((rows,), SENTENCES)} for rows in d.batches()]
    return b.built([tensor_info("X", "str", [None])], outputs, feeds)


@family()
def mean_of_models(d: Draw) -> Sample:
    """Two models' numbers side by side, with their mean, and one output that is a held value."""
    b, features = Builder(), d.between(1, 3)
    parts = []
    for _ in range(d.between(2, 3)):
        shared = plan(d, [0])
        shared.features = features
        built, _ = ensemble(d, shared, "target")
        parts.append(b.one("TreeEnsembleRegressor", "X", domain=ML, n_targets=1, **built))
    joined = b.one("Concat", *parts, axis=1)
    mean = b.one("ReduceMean", joined, axes=[1], keepdims=d.one([0, 1]))
    held = b.hold(d.data(d.one(["float32", "int64", "str"]), (2,)))
    feeds: list[Feed] = [{"X": d.floats((rows, features), level=ODD)} for rows in d.batches()]
    return b.built([tensor_info("X", "float32", [None, features])], [mean, b.one("Identity", held)], feeds)
