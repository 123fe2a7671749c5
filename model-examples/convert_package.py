"""What `convert.py` and the trainers of the examples write: graphs in good order and MLflow packages."""

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Old enough for every engine.
OPSETS = {"": 17, "ai.onnx.ml": 3}
EXAMPLE_ROWS = 5


@dataclass
class Converted:
    """A converted model, ready to be saved or logged."""

    package: dict
    request: dict
    parity: dict | None = None

    def save(self, output):
        """Writes the package with its recorded request and answer, and its parity; returns the digest of the graph."""
        output = Path(output)
        digest = write_package(output, **self.package)
        (output / "request.json").write_text(json.dumps(self.request) + "\n")
        (output / "expected.json").write_text(answer(output, self.request) + "\n")
        if self.parity is not None:
            (output / "parity.json").write_text(json.dumps(self.parity, indent=2) + "\n")
        return digest


def answer(package, request):
    """What MLflow's scoring server answers to a request, as JSON text."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    model = mlflow.pyfunc.load_model(str(package))
    return invocations(json.dumps(request), "application/json", model, model.metadata.get_input_schema()).response


def write_package(output, **package):
    """Writes an MLflow package to `output`, over an older one if there is one; returns the digest of the graph."""
    import mlflow.onnx

    with tempfile.TemporaryDirectory() as work:
        fresh = Path(work) / "package"
        mlflow.onnx.save_model(path=fresh, **package)
        shutil.copytree(fresh, output, dirs_exist_ok=True)
    digest = hashlib.sha256((output / "model.onnx").read_bytes()).hexdigest()
    print(f"{output / 'model.onnx'}: sha256 {digest}")
    return digest


def requirements():
    """What MLflow's own server needs, named here because MLflow would load the model once more to find out."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")]


def describe(inputs, onnx_model, columns):
    """The MLflow signature, and the first rows as an example and as a request."""
    describer = describe_columns if columns else describe_tensors
    return describer(inputs, onnx_model.graph.output)


def describe_columns(inputs, outputs):
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    example = inputs.frame.head(EXAMPLE_ROWS).astype(float).rename(columns=str)
    taken = Schema([ColSpec("double", name) for name in example])
    given = Schema([ColSpec(column_type(value), value.name) for value in outputs])
    table = json.loads(example.to_json(orient="split", index=False, double_precision=15))
    return ModelSignature(taken, given), example, {"dataframe_split": table}


def describe_tensors(inputs, outputs):
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    # numpy's own texts, as MLflow wants them.
    first = {name: rows[:EXAMPLE_ROWS] for name, rows in inputs.feeds.items()}
    first = {name: rows.astype(str) if rows.dtype == object else rows for name, rows in first.items()}
    kinds = {name: np.dtype(str) if rows.dtype.kind == "U" else rows.dtype for name, rows in first.items()}
    # One tensor stays unnamed: a request is a plain list.
    named = inputs.layout == "columns"
    taken = [TensorSpec(kinds[name], (-1, *rows.shape[1:]), name if named else None) for name, rows in first.items()]
    example = first if named else next(iter(first.values()))
    given = [output_spec(value) for value in outputs]
    signature = ModelSignature(Schema(taken), Schema(given) if all(given) else None)
    return signature, example, {"inputs": plain(example)}


def output_spec(value):
    """The specification of a graph's output; none for a list of maps, which MLflow's tensors cannot say."""
    import onnx
    from mlflow.types import TensorSpec

    if not value.type.HasField("tensor_type"):
        return None
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    dims = value.type.tensor_type.shape.dim[1:]
    return TensorSpec(
        np.dtype(str) if kind == object else kind, (-1, *(dim.dim_value or -1 for dim in dims)), value.name
    )


def column_type(value):
    """The type of an output in a row of a column signature's answer."""
    from mlflow.types.schema import Map
    from onnx import TensorProto

    names = {TensorProto.INT64: "long", TensorProto.STRING: "string", TensorProto.DOUBLE: "double"}
    kind = names.get(value.type.tensor_type.elem_type, "float")
    return kind if value.type.HasField("tensor_type") else Map("float")


def plain(values):
    """Arrays as JSON: a missing number is `null`, and a float32 is written as briefly as it can be read back."""
    if isinstance(values, dict):
        return {name: plain(rows) for name, rows in values.items()}
    if isinstance(values, (list, np.ndarray)):
        return [plain(row) for row in values]
    if isinstance(values, np.floating):
        return None if np.isnan(values) else float(str(values))
    return str(values) if isinstance(values, str) else values.item()


def tidy(onnx_model):
    """Makes a converter's graph fit for engines: a named batch axis, each operator set once and in order."""
    from onnx.helper import make_opsetid

    for value in [*onnx_model.graph.input, *onnx_model.graph.output]:
        if value.type.HasField("tensor_type") and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # The converters list them in an order that differs from run to run, and some of them twice.
    opsets = {opset.domain: opset.version for opset in onnx_model.opset_import}
    del onnx_model.opset_import[:]
    onnx_model.opset_import.extend(make_opsetid(*opset) for opset in sorted(opsets.items()))
    set_locale(onnx_model.graph.node)
    return onnx_model


def set_locale(nodes):
    """Lower-casing asks for en_US.UTF-8 unless told otherwise: small systems and containers do not have it."""
    words = [item for node in nodes if node.op_type == "TfIdfVectorizer" for item in node.attribute if item.strings]
    plain = all(word.isascii() for item in words for word in item.strings)
    for node in nodes:
        if node.op_type == "StringNormalizer":
            node.attribute.add(name="locale", type="STRING").s = b"C" if plain else b"C.UTF-8"
