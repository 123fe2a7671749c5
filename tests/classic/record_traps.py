"""Records how ONNX Runtime answers where readers of the standard disagree: one small graph for each case.

    python record_traps.py [--check FILE]

Writes `traps/*.onnx` and `traps/traps.json`; a case with `unstable` has answers that nobody can repeat. `--check` compares
the answers with those of an earlier list, a text with a line `SAME` or `DIFF` and the name, and below it `ort:` and the
answer.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from support import (
    ML,
    Feed,
    Json,
    Question,
    answer,
    constant,
    declare_all,
    graph,
    kind_of,
    tensor_info,
    text,
    untyped,
    write_cases,
)

FOLDER = Path(__file__).resolve().parent / "traps"
F32 = np.float32
ROWS = np.array([[-1], [1]], F32)
# ONNX Runtime leaves a part of these answers unwritten: what the memory held before.
UNSTABLE = ("binary one id, positive, PROBIT", "LinearClassifier one row, 2 labels PROBIT")
EDGES = np.array([[np.nan], [0], [np.inf], [-np.inf]], F32)


def single(
    name: str, op: str, inputs: Feed, outputs: Sequence[str] = ("Y",), version: int = 1, domain: str = ML, **attributes: Json
) -> Question:
    """A graph of one operator. The inputs declare their rank only."""
    node = helper.make_node(op, list(inputs), list(outputs), domain=domain, **attributes)
    infos = [tensor_info(each, kind_of(array), [None] * array.ndim) for each, array in inputs.items()]
    return Question(name, graph([node], infos, [untyped(each) for each in outputs], versions={ML: version}), inputs)


def stumps(
    leaves: Sequence[Sequence[Sequence[float]]], ids: Sequence[int], mode: str, prefix: str, threshold: float
) -> dict[str, Json]:
    """The attributes of trees with one split: for each tree, the votes of the leaf of the true and of the false branch."""
    found: dict[str, Json] = {
        "nodes_treeids": [],
        f"{prefix}_treeids": [],
        f"{prefix}_nodeids": [],
        f"{prefix}_ids": [],
        f"{prefix}_weights": [],
    }
    for tree, pair in enumerate(leaves):
        found["nodes_treeids"] += [tree] * 3
        for leaf, weights in enumerate(pair):
            for each, weight in zip(ids, weights, strict=True):
                found[f"{prefix}_treeids"].append(tree)
                found[f"{prefix}_nodeids"].append(1 + leaf)
                found[f"{prefix}_ids"].append(each)
                found[f"{prefix}_weights"].append(float(weight))
    count = len(leaves)
    return found | {
        "nodes_nodeids": [0, 1, 2] * count,
        "nodes_featureids": [0, 0, 0] * count,
        "nodes_values": [threshold, 0.0, 0.0] * count,
        "nodes_modes": [mode, "LEAF", "LEAF"] * count,
        "nodes_truenodeids": [1, 0, 0] * count,
        "nodes_falsenodeids": [2, 0, 0] * count,
    }


def classifier(
    name: str, votes: Sequence[Sequence[float]], ids: Sequence[int], labels: Sequence[int | str], **attributes: Json
) -> Question:
    """A tree whose first leaf answers the first row."""
    key = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    tree = stumps([votes], ids, "BRANCH_LEQ", "class", 0.0)
    return single(name, "TreeEnsembleClassifier", {"X": ROWS}, ("label", "scores"), **{key: labels}, **tree, **attributes)


def binary_trees() -> Iterator[Question]:
    """Two labels."""
    one, two = [0], [5, 7]
    positive, mixed, wide = [[0.5], [0.7]], [[-0.5], [0.7]], [[0.2], [0.7]]
    yield classifier("binary one id, positive weights .5/.7 (tie at .5)", positive, one, two)
    yield classifier("binary one id = 1, positive", [[0.3], [0.7]], [1], two)
    yield classifier("binary one id, mixed, NONE", mixed, one, two)
    yield classifier("binary one id, mixed, zero score", [[0.0], [-0.7]], one, two)
    yield classifier("binary one id, mixed, LOGISTIC", mixed, one, two, post_transform="LOGISTIC")
    named = "binary one id, positive weights, LOGISTIC (logistic NOT applied?)"
    yield classifier(named, wide, one, two, post_transform="LOGISTIC")
    yield classifier("binary one id, mixed, SOFTMAX", mixed, one, two, post_transform="SOFTMAX")
    yield classifier("binary one id, mixed, SOFTMAX_ZERO", mixed, one, two, post_transform="SOFTMAX_ZERO")
    yield classifier("binary one id, positive, PROBIT", wide, one, two, post_transform="PROBIT")
    base = [0.1, 0.2]
    yield classifier("binary one id, base 1 value, LOGISTIC", mixed, one, two, post_transform="LOGISTIC", base_values=base[:1])
    yield classifier("binary one id, base 2 values, LOGISTIC", mixed, one, two, post_transform="LOGISTIC", base_values=base)
    named = "binary one id, positive, base -1 (label uses sum; all_positive of weights only)"
    yield classifier(named, positive, one, two, base_values=[-0.6])
    both, sure, logits = [0, 1], [[0.9, 0.1], [0.2, 0.8]], [[0.9, -0.9], [-0.2, 0.2]]
    yield classifier("two ids, probabilities, labels 5/7", sure, both, two)
    yield classifier("two ids, logits, labels 5/7", logits, both, two)
    yield classifier("two ids, logits, SOFTMAX, strings", logits, both, ["a", "b"], post_transform="SOFTMAX")
    yield classifier("two ids, base 2", sure, both, two, base_values=base)


def wider_trees() -> Iterator[Question]:
    """Three labels."""
    three = [5, 7, 9]
    yield classifier("3 classes tie", [[0.1, 0.1, 0.1], [0.2, 0.3, 0.3]], [0, 1, 2], three)
    negative = [[-0.1], [-0.2]]
    yield classifier("3 classes, only class 1 ever voted, negative", negative, [1], three)
    yield classifier("3 classes, only class 1 voted, SOFTMAX", negative, [1], three, post_transform="SOFTMAX")
    apart = [[0.0, 1.0, 2.0], [0.0, -2.0, 2.0]]
    yield classifier("3 classes SOFTMAX_ZERO", apart, [0, 1, 2], three, post_transform="SOFTMAX_ZERO")


def regressor(
    name: str, trees: Sequence[Sequence[Sequence[float]]], targets: int, ids: Sequence[int], **attributes: Json
) -> Question:
    """Trees that answer numbers."""
    built = stumps(trees, ids, "BRANCH_LEQ", "target", 0.0)
    return single(name, "TreeEnsembleRegressor", {"X": ROWS}, n_targets=targets, **built, **attributes)


def branches() -> Iterator[Question]:
    """Every comparison, with the numbers at its edges."""
    for mode in ("LEQ", "LT", "GT", "GTE", "EQ", "NEQ"):
        built = stumps([[[1.0], [2.0]]], [0], f"BRANCH_{mode}", "target", 0.0)
        named = f"BRANCH_{mode} thr 0, NaN/0/inf/-inf, no tracks (1=true leaf)"
        yield single(named, "TreeEnsembleRegressor", {"X": EDGES}, n_targets=1, **built)
        named = f"BRANCH_{mode} NaN tracks true"
        tracks = {"nodes_missing_value_tracks_true": [1, 0, 0]}
        yield single(named, "TreeEnsembleRegressor", {"X": EDGES}, n_targets=1, **built, **tracks)


def regressors() -> Iterator[Question]:
    """Post-transforms, base values and aggregates of numbers."""
    one = [[[0.2], [0.7]]]
    for post in ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
        yield regressor(f"regressor {post}", one, 1, [0], post_transform=post)
    pairs = [[[0.0, 1.0], [1.0, 2.0]]]
    yield regressor("regressor 2 targets SOFTMAX", pairs, 2, [0, 1], post_transform="SOFTMAX")
    first = [[[1.0], [2.0]]]
    yield regressor("regressor 2 targets, base, only target 0 voted", first, 2, [0], base_values=[10.0, 20.0])
    average = [[[0.0], [1.0]], [[2.0], [3.0]]]
    yield regressor("regressor AVERAGE base", average, 1, [0], aggregate_function="AVERAGE", base_values=[10.0])
    least = [[[1.0], [2.0]], [[3.0], [4.0]]]
    yield regressor("regressor MIN", least, 1, [0], aggregate_function="MIN", base_values=[10.0])


def numbers() -> Iterator[Question]:
    """Operators from numbers to numbers."""
    rows = np.array([[1, -2], [-1, -2], [0, 0], [np.nan, 1]], F32)
    for norm in ("MAX", "L1", "L2"):
        yield single(f"Normalizer {norm}", "Normalizer", {"X": rows}, norm=norm)
    yield single("Normalizer int L2", "Normalizer", {"X": np.array([[3, -4]])}, norm="L2")
    yield single("Binarizer .5", "Binarizer", {"X": np.array([[0.5, 0.6, np.nan, -1]], F32)}, threshold=0.5)
    gaps = np.array([[np.nan, 2], [0, np.nan]], F32)
    yield single("Imputer nan", "Imputer", {"X": gaps}, imputed_value_floats=[7.0, 8.0], replaced_value_float=math.nan)
    zero = np.array([[np.nan, 0]], F32)
    yield single("Imputer 0 (NaN stays?)", "Imputer", {"X": zero}, imputed_value_floats=[7.0], replaced_value_float=0.0)
    integers = np.array([[0, 2]])
    yield single("Imputer int", "Imputer", {"X": integers}, imputed_value_int64s=[7, 8], replaced_value_int64=0)
    double = gaps[:1].astype(np.float64)
    yield single("Imputer double", "Imputer", {"X": double}, imputed_value_floats=[7.0], replaced_value_float=math.nan)
    yield single("Scaler int64", "Scaler", {"X": np.array([[3, 10]])}, offset=[1.0, 1.0], scale=[0.5, 0.5])
    yield single("Scaler one value", "Scaler", {"X": np.array([[2, 4]], F32)}, offset=[1.0], scale=[1.0])
    yield single("Scaler double", "Scaler", {"X": np.array([[2, 4]], np.float64)}, offset=[0.0, 0.0], scale=[0.5, 0.5])


def encoders() -> Iterator[Question]:
    """Operators between categories and numbers."""
    words = text([["a"], ["unknown"]])
    for zeros in (0, 1):
        yield single(f"OneHot unknown zeros={zeros}", "OneHotEncoder", {"X": words}, cats_strings=["a", "b"], zeros=zeros)
    floats = np.array([[1.9], [2.0], [np.nan]], F32)
    yield single("OneHot float 1.9 / nan", "OneHotEncoder", {"X": floats}, cats_int64s=[1, 2], zeros=1)
    yield single("OneHot duplicate cats", "OneHotEncoder", {"X": np.array([[1]])}, cats_int64s=[1, 1], zeros=1)
    keyed: dict[str, Json] = {"keys_floats": [math.nan, 1.0], "values_int64s": [5, 6]}
    yield single("LabelEncoder v2 float NaN key", "LabelEncoder", {"X": np.array([np.nan, 1], F32)}, version=2, **keyed)
    letters = text(["unknown", "a"])
    named = "LabelEncoder v2 string no default"
    yield single(named, "LabelEncoder", {"X": letters}, version=2, keys_strings=["a"], values_strings=["A"])
    twice: dict[str, Json] = {"keys_int64s": [1, 1], "values_int64s": [1, 2]}
    yield single("LabelEncoder dup keys", "LabelEncoder", {"X": np.array([1])}, version=2, **twice)
    named = "LabelEncoder float default"
    yield single(named, "LabelEncoder", {"X": np.array([2])}, version=2, keys_int64s=[1], values_floats=[1.0])
    named = "LabelEncoder v4 float NaN key"
    yield single(named, "LabelEncoder", {"X": np.array([np.nan, 1, 2], F32)}, version=4, **keyed)
    data, two = np.array([1, 2, 3], F32), np.array([[1, 2, 3], [4, 5, 6]], F32)
    yield picked("AFE 1-D data", data, [2])
    yield picked("AFE 2-D one index", two, [1])
    yield picked("AFE negative", data[None], [-1])
    yield picked("AFE 2-D indices", two[:1], [0, 2])


def picked(name: str, data: np.ndarray, columns: Sequence[int]) -> Question:
    """Columns by constant indices, as converters write them."""
    node = helper.make_node("ArrayFeatureExtractor", ["X", "I"], ["Y"], domain=ML)
    inputs = [tensor_info("X", "float32", [None] * data.ndim)]
    return Question(name, graph([node], inputs, [untyped("Y")], [constant("I", np.array(columns))]), {"X": data})


def linear() -> Iterator[Question]:
    """Linear classifiers of two labels, with one and with two rows of coefficients."""
    rows = np.array([[-0.3], [0], [0.3]], F32)
    for named, coefficients in (("one row, 2 labels", [1.0]), ("two rows", [1.0, -1.0])):
        for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
            if (named, post) == ("two rows", "SOFTMAX_ZERO"):
                continue
            attributes: dict[str, Json] = {"coefficients": coefficients, "intercepts": [0.0] * len(coefficients)}
            attributes |= {"classlabels_ints": [5, 7], "post_transform": post}
            yield single(f"LinearClassifier {named} {post}", "LinearClassifier", {"X": rows}, ("label", "scores"), **attributes)


def casts() -> Iterator[Question]:
    """Conversions between text and numbers."""

    def cast(name: str, data: np.ndarray, to: int) -> Question:
        return single(name, "Cast", {"X": data}, domain="", to=to)

    floats = np.array([1, 0.1, 1e10, 1e-7, 123456789, np.nan, np.inf, -0.0, 16777216, 3.14159265], F32)
    yield cast("Cast float->string", floats, TensorProto.STRING)
    yield cast("Cast double->string", np.array([1, 0.1, 1e22, 1 / 3]), TensorProto.STRING)
    yield cast("Cast int->string", np.array([1, -5]), TensorProto.STRING)
    for each in ("1.5", " 2 ", "1e3", "nan", "inf", "-inf", "+3", "0x10", "", "abc", "1_000", "1,5"):
        yield cast(f"Cast string->float '{each}'", text([each]), TensorProto.FLOAT)
    for each in ("7", "7.9", "-3", " 4", "abc"):
        yield cast(f"Cast string->int64 '{each}'", text([each]), TensorProto.INT64)
    yield cast("Cast float->int64", np.array([1.9, -1.9, np.nan, np.inf, 1e30], F32), TensorProto.INT64)
    yield cast("Cast float->bool", np.array([0, -0.0, np.nan, 0.5], F32), TensorProto.BOOL)


def maps() -> Iterator[Question]:
    """The order of keys."""
    data = np.array([[0.1, 0.9]], F32)
    node = helper.make_node("ZipMap", ["X"], ["Y"], domain=ML, classlabels_strings=["z", "a"])
    yield Question("ZipMap order z,a", graph([node], [tensor_info("X", "float32", [None, 2])], [untyped("Y")]), {"X": data})


def questions() -> list[Question]:
    """All of them, in the order of the list."""
    groups = (binary_trees, wider_trees, branches, regressors, numbers, encoders, linear, casts, maps)
    return [each for group in groups for each in group()]


def file_name(name: str) -> str:
    """A name without what file systems and shells dislike."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")[:60]


def shown(case: Json) -> str:
    """An answer as the list shows it."""
    if "error" in case:
        return "ERR"
    return " | ".join(repr(nested(each)) for each in case["outputs"])


def nested(output: Json) -> Json:
    """An output as nested lists."""
    if "kind" in output:
        return [dict(zip(output["keys"], row, strict=True)) for row in output["values"]]
    plain = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    numeric = output["datatype"] != "BYTES"
    data = [plain.get(each, each) if numeric and isinstance(each, str) else each for each in output["data"]]
    return np.array(data, dtype=object).reshape(output["shape"]).tolist()


def differences(cases: Sequence[Json], recorded: Path) -> list[str]:
    """The cases whose answers are not those of the list, and those that only one side has."""
    lines = recorded.read_text(encoding="utf-8").splitlines()
    pairs = pairwise(lines)
    listed = {name[5:]: ort.strip().removeprefix("ort: ") for name, ort in pairs if name[:5] in ("SAME ", "DIFF ")}
    found = {case["name"]: case for case in cases}
    problems = [f"only on one side: {name}" for name in sorted(listed.keys() ^ found.keys())]
    for name in listed.keys() & found.keys() - set(UNSTABLE):
        case, expected = found[name], listed[name]
        if expected.startswith("ERR"):
            # The list starts some messages in their middle.
            words = re.sub(r"^ERR (\[ONNXRuntimeError\]|T) : ", "", expected).strip()
            if "error" not in case or words not in case["error"]:
                problems.append(f"{name}: {case.get('error') or shown(case)} instead of {expected}")
        elif shown(case) != expected:
            problems.append(f"{name}: {shown(case)} instead of {expected}")
    return problems


def main() -> int:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.onnx"):
        old.unlink()
    cases = []
    for number, question in enumerate(questions()):
        question.file = f"{number:02}_{file_name(question.name)}.onnx"
        (FOLDER / question.file).write_bytes(question.model)
        if question.name in UNSTABLE:
            question.extra["unstable"] = True
        case = answer(question, times=1)
        if case is not None:
            cases.append(case)
    declare_all(FOLDER, cases)
    write_cases(FOLDER / "traps.json", cases)
    problems = differences(cases, arguments.check) if arguments.check else []
    print(f"{len(cases)} cases", *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
