"""Writes what ONNX Runtime answers to onnx's node models, for inputs of each class.

    python record.py --out DIR --seed 1

`DIR/models/*.onnx` are the models and `DIR/cases.jsonl` has a line for each run: the model, the operator, the class, and
the tensors of inputs and outputs, whose bytes are in `DIR/tensors.bin`. A model that ONNX Runtime cannot load, an answer
that changes from run to run and one that is no tensor are left out.
"""

import argparse
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "rows"))

import workers
from runs import load
from sources import as_array, node_cases, opened

CLASSES = ("recorded", "normal", "300", "nan", "inf", "-inf", "largest", "integers", "empty")
SECONDS = 60
# Answers beyond this are nobody's operator.
LARGEST = 1 << 20
TYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def drawn(kind, name, array, rng):
    """An input of this class; None where the class says nothing of such an input."""
    if array.dtype.kind == "f":
        # A scale of quantization is one or more numbers that belong to the model.
        return None if name.endswith("scale") else drawn_floats(kind, array, rng)
    if kind == "integers" and array.dtype.kind in "iu" and array.ndim:
        low = -300 if array.dtype.kind == "i" else 0
        return rng.integers(max(low, np.iinfo(array.dtype).min), min(300, np.iinfo(array.dtype).max), array.shape, array.dtype)
    return None


def drawn_floats(kind, array, rng):
    plain = rng.standard_normal(array.shape).astype(array.dtype)
    if kind == "normal":
        return plain
    if kind == "300":
        return (plain * (300 / max(1e-3, np.abs(plain).max(initial=0)))).astype(array.dtype)
    largest = np.finfo(array.dtype).max
    special = {"nan": [np.nan], "inf": [np.inf], "-inf": [-np.inf], "largest": [largest, -largest]}.get(kind)
    if special is None:
        return None
    chosen = rng.random(array.shape) < 0.3
    if array.size and not chosen.any():
        chosen.flat[rng.integers(array.size)] = True
    return np.where(chosen, rng.choice(special, array.shape), plain).astype(array.dtype)


def cases(name, data, empty, recorded, seed):
    """The runs of one model: their class, inputs and outputs."""
    rng = np.random.default_rng(seed)
    session = loaded(data)
    if session is None:
        return name, []
    names = [each.name for each in session.get_inputs()]
    found = []
    for kind in CLASSES[:-1]:
        inputs = dict(recorded)
        if kind != "recorded":
            changed = {each: drawn(kind, each, recorded[each], rng) for each in recorded}
            changed = {each: array for each, array in changed.items() if array is not None}
            if not changed:
                continue
            inputs.update(changed)
        found.extend(answer(session, kind, {each: inputs[each] for each in names if each in inputs}))
    rows = loaded(empty)
    if rows is not None:
        nothing = {each.name: recorded[each.name][:0] for each in rows.get_inputs()}
        found.extend(answer(rows, "empty", nothing) if nothing else [])
    return name, found


def loaded(data):
    try:
        return load(onnx.ModelProto.FromString(data))
    except Exception:
        return None


def answer(session, kind, inputs):
    try:
        first, second = (session.run(None, inputs) for _ in range(2))
    except Exception:
        return
    if all(isinstance(each, np.ndarray) and each.dtype.name in TYPES and each.size <= LARGEST for each in first):
        if all(np.array_equal(one, other, equal_nan=one.dtype.kind == "f") for one, other in zip(first, second)):
            names = [each.name for each in session.get_outputs()]
            yield kind, inputs, dict(zip(names, first))


def tensors_of(model, values):
    names = [value.name for value in model.graph.input]
    arrays = [as_array(value) for value in values]
    if any(array is None or array.dtype.name not in TYPES for array in arrays):
        return None
    return dict(zip(names, arrays))


class Tensors:
    """The bytes of all tensors, one after another."""

    def __init__(self, path):
        self.file = path.open("wb")

    def add(self, name, array):
        start = self.file.tell()
        self.file.write(np.ascontiguousarray(array).tobytes())
        return {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "start": start, "bytes": array.nbytes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    (arguments.out / "models").mkdir(parents=True, exist_ok=True)
    tasks = []
    for case in node_cases():
        values = list(case.data_sets[0][0]) if case.data_sets else []
        recorded = tensors_of(case.model, values)
        if recorded is not None:
            models = (case.model, opened(case.name, case.model, values).model)
            seed = zlib.crc32(case.name.encode()) + arguments.seed
            tasks.append((case.name, *(model.SerializeToString() for model in models), recorded, seed))
    tensors = Tensors(arguments.out / "tensors.bin")
    models = {name: (data, empty) for name, data, empty, *_ in tasks}
    with (arguments.out / "cases.jsonl").open("w") as lines:
        for _, state, result in workers.run(cases, tasks, 2, SECONDS):
            if state != "done":
                continue
            name, found = result
            for kind, inputs, outputs in found:
                suffix = "-rows" if kind == "empty" else ""
                path = Path("models") / f"{name}{suffix}.onnx"
                (arguments.out / path).write_bytes(models[name][1 if kind == "empty" else 0])
                line = {"model": str(path), "name": name, "class": kind}
                line["operators"] = sorted({node.op_type for node in onnx.ModelProto.FromString(models[name][0]).graph.node})
                line["inputs"] = [tensors.add(each, array) for each, array in inputs.items()]
                line["outputs"] = [tensors.add(each, array) for each, array in outputs.items()]
                lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
