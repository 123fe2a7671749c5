"""What the recorders of this folder share: graphs of a few nodes, runs on ONNX Runtime, and the form in which answers are kept.

A case is an object with `name`, `model` (a file beside it), `inputs` and either `outputs` or `error`. A tensor is
`{"name", "datatype", "shape", "data"}`, a list of maps `{"kind": "seqmap", "name", "keys", "values"}`, a list of tensors
`{"kind": "seqtensor", "name", "tensors"}`. Numbers are JSON numbers; those that JSON lacks are "NaN", "Infinity" and
"-Infinity". With an error, `stage` says whether the model did not load (`load`) or the run failed (`run`).
"""

import json
import locale
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"
DATATYPES = {"float32": "FP32", "float64": "FP64", "int16": "INT16", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "str": TensorProto.STRING,
}
# Old enough for every version of the runtime that is in use.
IR_VERSION = 8

Json = Any
Feed = dict[str, np.ndarray]


@dataclass
class Question:
    """A graph and what it is asked; `answer` turns it into a case."""

    name: str
    model: bytes
    inputs: Feed
    file: str = ""
    extra: dict[str, Json] = field(default_factory=dict)


def text(values: Json) -> np.ndarray:
    """Strings as ONNX Runtime takes them: without a width, which would cut the zeros at their ends."""
    return np.array(values, dtype=object)


def kind_of(array: np.ndarray) -> str:
    """The name of the type of the elements."""
    return "str" if array.dtype.kind in "OUS" else array.dtype.name


def element(kind: str) -> int:
    """The number that ONNX gives to a type."""
    return ELEMENTS[kind]


def tensor_info(name: str, kind: str, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    """An input or output with a tensor."""
    return helper.make_tensor_value_info(name, element(kind), shape)


def constant(name: str, array: np.ndarray) -> onnx.TensorProto:
    """An initializer."""
    if kind_of(array) == "str":
        encoded = [str(each).encode() for each in array.reshape(-1)]
        return helper.make_tensor(name, TensorProto.STRING, array.shape, encoded)
    return numpy_helper.from_array(array, name)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    versions: dict[str, int] | None = None,
) -> bytes:
    """A model as bytes; `versions` has those of the operator sets which differ from opset 17 and ai.onnx.ml 1."""
    wanted = {"": 17, ML: 1} | (versions or {})
    used = {node.domain for node in nodes} | {""}
    sets = [helper.make_opsetid(domain, wanted.get(domain, 1)) for domain in sorted(used)]
    proto = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    return helper.make_model(proto, opset_imports=sets, ir_version=IR_VERSION).SerializeToString()


def untyped(name: str) -> onnx.ValueInfoProto:
    """An output whose type ONNX Runtime shall find: a wrong one would be refused."""
    found = onnx.ValueInfoProto()
    found.name = name
    return found


def options() -> onnxruntime.SessionOptions:
    """One thread, so that sums have one order."""
    found = onnxruntime.SessionOptions()
    found.intra_op_num_threads = 1
    found.inter_op_num_threads = 1
    found.log_severity_level = 4
    return found


def ensure_locale() -> None:
    """Gives the text operators the locale that they ask for by name, where a slim system lacks it."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "en_US.UTF-8")
    except locale.Error:
        source = Path("/usr/lib/locale/C.utf8")
        if "LOCPATH" not in os.environ and source.is_dir():
            folder = Path(tempfile.gettempdir()) / f"classic-locales-{os.getuid()}"
            shutil.copytree(source, folder / "en_US.UTF-8", dirs_exist_ok=True)
            shutil.copytree(source, folder / "C.utf8", dirs_exist_ok=True)
            os.environ["LOCPATH"] = str(folder)
    finally:
        locale.setlocale(locale.LC_ALL, before)


def number(value: Json) -> Json:
    """A value as JSON can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def encode_tensor(name: str, array: np.ndarray) -> Json:
    """A tensor in the form of the cases."""
    kind = kind_of(array)
    if kind == "str":
        flat = [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1).tolist()]
        return {"name": name, "datatype": "BYTES", "shape": list(array.shape), "data": flat}
    flat = array.reshape(-1).tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        flat = [number(each) for each in flat]
    return {"name": name, "datatype": DATATYPES[kind], "shape": list(array.shape), "data": flat}


def encode(name: str, value: Json) -> Json:
    """An output of ONNX Runtime, or of a library, in the form of the cases."""
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            keys = list(value[0])
            rows = [[number(float(row[key])) for key in keys] for row in value]
            return {"kind": "seqmap", "name": name, "keys": keys, "values": rows}
        if value and isinstance(value[0], np.ndarray):
            return {"kind": "seqtensor", "name": name, "tensors": [encode_tensor(name, each) for each in value]}
        return {"kind": "seqmap", "name": name, "keys": [], "values": []}
    return encode_tensor(name, np.asarray(value))


def same(left: Json, right: Json) -> bool:
    """Whether two answers are the same to the bit."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def answered(question: Question) -> list[Json] | tuple[str, str]:
    """ONNX Runtime's outputs, or the stage at which it refused and what it said."""
    ensure_locale()
    try:
        session = onnxruntime.InferenceSession(question.model, options(), providers=["CPUExecutionProvider"])
    except Exception as error:
        return "load", str(error)
    try:
        found = session.run(None, question.inputs)
        return [encode(each.name, value) for each, value in zip(session.get_outputs(), found, strict=True)]
    except Exception as error:
        return "run", str(error)


def answer(question: Question, times: int = 2) -> Json | None:
    """A case; None where ONNX Runtime does not say the same each time, so that there is nothing to compare with."""
    found = answered(question)
    for _ in range(times - 1):
        again = answered(question)
        if isinstance(found, tuple) != isinstance(again, tuple) or (isinstance(found, list) and not same(found, again)):
            return None
    case = {"name": question.name, "model": question.file}
    case["inputs"] = [encode_tensor(name, array) for name, array in question.inputs.items()]
    if isinstance(found, tuple):
        return case | question.extra | {"stage": found[0], "error": found[1]}
    return case | question.extra | {"outputs": found}


def answers(questions: Iterable[Question]) -> list[Json | None]:
    """The cases of questions in their order; a question on which the runtime itself breaks down costs only its own answer.

    The runtime works in another process, a block of questions at a time; after a breakdown the block is asked one by one.
    """
    waiting = list(questions)
    found: list[Json | None] = []
    pool = ProcessPoolExecutor(1)
    size = 32
    try:
        while waiting:
            block = waiting[:size]
            try:
                found.extend(pool.submit(_block, block).result())
                waiting = waiting[len(block) :]
            except BrokenProcessPool:
                pool = ProcessPoolExecutor(1)
                for question in block:
                    try:
                        found.extend(pool.submit(_block, [question]).result())
                    except BrokenProcessPool:
                        pool = ProcessPoolExecutor(1)
                        found.append(None)
                waiting = waiting[len(block) :]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return found


def once(cases: list[Json | None]) -> list[Json | None]:
    """Without the later runs of a graph that does not load: its first one has said so."""
    found: list[Json | None] = []
    refused: set[str] = set()
    for case in cases:
        again = case is not None and case["model"] in refused
        if case is not None and case.get("stage") == "load":
            refused.add(case["model"])
        found.append(None if again else case)
    return found


def _block(questions: list[Question]) -> list[Json | None]:
    return [answer(each) for each in questions]


def declare(path: Path, outputs: Json) -> None:
    """Gives the outputs of a model the types of what ONNX Runtime answered: a file without them is no valid model."""
    model = onnx.load(path)
    names = {output.name: output for output in model.graph.output}
    numbers = {datatype: ELEMENTS[kind] for kind, datatype in DATATYPES.items()} | {"BYTES": TensorProto.STRING}
    for output in outputs:
        declared = names.get(output["name"])
        if declared is None or declared.HasField("type"):
            continue
        if output.get("kind") == "seqmap":
            is_text = any(isinstance(key, str) for key in output["keys"])
            values = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
            key = TensorProto.STRING if is_text else TensorProto.INT64
            declared.type.CopyFrom(helper.make_sequence_type_proto(helper.make_map_type_proto(key, values)))
        elif output.get("kind") == "seqtensor":
            element = helper.make_tensor_type_proto(numbers[output["tensors"][0]["datatype"]], None)
            declared.type.CopyFrom(helper.make_sequence_type_proto(element))
        else:
            declared.type.CopyFrom(helper.make_tensor_type_proto(numbers[output["datatype"]], None))
    path.write_bytes(model.SerializeToString())


def declare_all(folder: Path, cases: Sequence[Json | None]) -> None:
    """Declares the outputs of each model of a folder, by the first case that has an answer with values."""
    done: set[str] = set()
    for case in cases:
        if case is None or "outputs" not in case or case["model"] in done:
            continue
        if any(output.get("kind") == "seqmap" and not output["keys"] for output in case["outputs"]):
            continue
        declare(folder / case["model"], case["outputs"])
        done.add(case["model"])


def write_cases(path: Path, cases: Sequence[Json]) -> None:
    """Writes the cases, one a line, so that a difference between two recordings can be read."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, allow_nan=False) for case in cases)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
