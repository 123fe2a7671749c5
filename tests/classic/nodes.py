"""Turns the node tests that onnx ships into cases.

    python nodes.py --out DIR [--data FOLDER] [--operators FILE]

`FOLDER` has a folder for each test: `onnx/backend/test/data/node` of a wheel of onnx up to 1.20.1; later ones lack it. `FILE`
has a line `domain,OpType` for each operator that a test may use, with an empty domain for ai.onnx; without it, those that
converters write. `DIR/<test>.onnx` are the models and `DIR/cases.json` has a case for each set of data. The outputs are those
that onnx recorded, which nobody here computed; `runtime` says whether ONNX Runtime answers the `same`, `differs` or is
`refused`.
"""

import argparse
import collections
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from support import ELEMENTS, Json, Question, answers, encode_tensor, write_cases

CLASSIC = """ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier
TreeEnsembleRegressor ZipMap"""
CORE = """Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Constant ConstantOfShape CumSum Div Equal Erf Exp Expand Flatten Floor
Gather GatherElements Gemm Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max
Mean Min Mul Neg Not OneHot Or Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Scan Shape Sigmoid Sign Size Slice Softmax Split Sqrt Squeeze
StringNormalizer Sub Sum Tanh TfIdfVectorizer Tile TopK Transpose Unsqueeze Where Xor"""
DEFAULT = (
    {("ai.onnx.ml", each) for each in CLASSIC.split()} | {("", each) for each in CORE.split()} | {("com.microsoft", "Tokenizer")}
)
KNOWN = set(ELEMENTS.values())


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)


def usable(model: onnx.ModelProto, operators: set[tuple[str, str]]) -> bool:
    """Whether the operators are among these, and all types among those of classic models."""
    if model.functions or any((node.domain, node.op_type) not in operators for node in nodes(model.graph)):
        return False
    values = [*model.graph.input, *model.graph.output]
    # Whole numbers of 16 bits occur in classic models as values of encoders alone.
    is_classic = all(node.domain == "ai.onnx.ml" for node in nodes(model.graph))
    known = KNOWN if is_classic else KNOWN - {TensorProto.INT16}
    casts = [a.i for node in nodes(model.graph) if node.op_type == "Cast" for a in node.attribute if a.name == "to"]
    return all(value.type.tensor_type.elem_type in known for value in values) and all(each in known for each in casts)


def tensor(path: Path) -> np.ndarray:
    """A recorded tensor; text comes as bytes."""
    found = TensorProto()
    found.ParseFromString(path.read_bytes())
    array = numpy_helper.to_array(found)
    if found.data_type != TensorProto.STRING:
        return array
    decoded = [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1).tolist()]
    return np.array(decoded, dtype=object).reshape(array.shape)


def questions(folder: Path, model: onnx.ModelProto) -> Iterator[tuple[Question, list[Json]]]:
    """The sets of data of a test with the answers that onnx recorded."""
    data = model.SerializeToString()
    for run in sorted(folder.glob("test_data_set_*")):
        inputs = {value.name: tensor(run / f"input_{position}.pb") for position, value in enumerate(model.graph.input)}
        files = [(value.name, run / f"output_{position}.pb") for position, value in enumerate(model.graph.output)]
        outputs = [encode_tensor(name, tensor(path)) for name, path in files]
        yield Question(folder.name, data, inputs, f"{folder.name}.onnx"), outputs


def close(left: Sequence[Json], right: Sequence[Json]) -> bool:
    """Whether outputs are the same, but for the last digits."""
    for one, other in zip(left, right, strict=True):
        if "kind" in other or (one["datatype"], one["shape"]) != (other["datatype"], other["shape"]):
            return False
        if one["datatype"] not in ("FP32", "FP64"):
            if one["data"] != other["data"]:
                return False
            continue
        pairs = zip([float(each) for each in one["data"]], [float(each) for each in other["data"]], strict=True)
        if not all((math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= 1e-6 + 1e-5 * abs(a) for a, b in pairs):
            return False
    return True


def named_operators(path: Path | None) -> set[tuple[str, str]]:
    """The operators that a test may use."""
    if path is None:
        return DEFAULT
    found = set()
    for line in path.read_text(encoding="utf-8").split():
        domain, _, op = line.rpartition(",")
        found.add(("" if domain == "ai.onnx" else domain, op))
    return found


def main() -> int:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(onnx.__file__).parent / "backend/test/data/node")
    parser.add_argument("--operators", type=Path)
    arguments = parser.parse_args()
    started = time.monotonic()
    operators = named_operators(arguments.operators)
    arguments.out.mkdir(parents=True, exist_ok=True)
    folders = sorted(each for each in arguments.data.glob("*") if (each / "model.onnx").is_file())
    if not folders:
        parser.error(f"`{arguments.data}` has no node tests")
    asked: list[tuple[Question, list[Json]]] = []
    for folder in folders:
        model = onnx.load(folder / "model.onnx")
        if usable(model, operators):
            (arguments.out / f"{folder.name}.onnx").write_bytes((folder / "model.onnx").read_bytes())
            asked.extend(questions(folder, model))
    cases, states = [], collections.Counter()
    for (question, outputs), found in zip(asked, answers([question for question, _ in asked]), strict=True):
        state = "refused" if found is None or "error" in found else ("same" if close(outputs, found["outputs"]) else "differs")
        states[state] += 1
        inputs = [encode_tensor(name, array) for name, array in question.inputs.items()]
        cases.append({"name": question.name, "model": question.file, "runtime": state, "inputs": inputs, "outputs": outputs})
    write_cases(arguments.out / "cases.json", cases)
    took = time.monotonic() - started
    print(f"{len(cases)} cases of {len(folders)} tests; ONNX Runtime: {dict(states)}; {took:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
