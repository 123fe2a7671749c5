"""The package: ONNX weights, signature, example, recorded answer and report, on disk or as a version of a registry."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from onstage._convert.layout import Layout
from onstage._convert.original import Original
from onstage._convert.source import Source, brief, tracking_hint
from onstage._extras import need
from onstage.errors import ConversionError, RegistryError

EXAMPLE_ROWS = 5
TAG = "onstage.converted_from"


@dataclass
class Converted:
    """A converted model that has proved to answer as the original does."""

    onnx_model: Any
    original: Original
    layout: Layout
    frame: Any
    report: dict[str, Any]
    source: Source


def save(converted: Converted, output: Path) -> str:
    """Writes the package to a directory that is new, empty, or holds a package to renew; gives its path."""
    if output.exists() and not (output / "MLmodel").is_file() and (output.is_file() or any(output.iterdir())):
        raise ConversionError(f"`{output}` holds other files", "name a new directory, or one with a package to renew")
    with tempfile.TemporaryDirectory() as work:
        fresh = Path(work) / "package"
        write(converted, fresh)
        try:
            if output.exists():
                shutil.rmtree(output)
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(fresh, output)
        except OSError as cause:
            raise ConversionError(f"`{output}` cannot be written: {cause}") from cause
    return str(output)


def write(converted: Converted, path: Path, mlflow_model: Any = None) -> None:
    """Writes the package to a new directory."""
    onnx_flavor = need("mlflow.onnx")
    signature, example = describe(converted)
    if mlflow_model is not None and converted.source.uri:
        mlflow_model.metadata = {**(mlflow_model.metadata or {}), TAG: converted.source.uri}
    onnx_flavor.save_model(
        converted.onnx_model,
        path=str(path),
        signature=signature,
        input_example=example,
        pip_requirements=requirements(),
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
        metadata={TAG: converted.source.uri} if converted.source.uri and mlflow_model is None else None,
        **({} if mlflow_model is None else {"mlflow_model": mlflow_model}),
    )
    (path / "parity.json").write_text(json.dumps(converted.report, indent=2) + "\n")
    (path / "expected.json").write_text(answer(path) + "\n")


def answer(package: Path) -> str:
    """What MLflow's scoring server answers to the example, as JSON text."""
    pyfunc = need("mlflow.pyfunc")
    from mlflow.pyfunc.scoring_server import invocations

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    request = (package / "serving_input_example.json").read_text()
    model = pyfunc.load_model(str(package))
    try:
        with texts_as_objects():
            found = invocations(request, "application/json", model, model.metadata.get_input_schema())
    except Exception as cause:  # MLflow's errors, and those of ONNX Runtime below it
        raise ConversionError(f"the package does not answer its own example: {brief(cause)}") from cause
    return str(found.response)


@contextlib.contextmanager
def texts_as_objects() -> Iterator[None]:
    """Keeps pandas 3 from its own type of texts, which MLflow 3.17 hands to ONNX Runtime as it is, and that refuses it."""
    import pandas as pd

    try:
        before = pd.get_option("future.infer_string")
    except KeyError:  # an option that is gone, or not there yet
        yield
        return
    pd.set_option("future.infer_string", False)
    try:
        yield
    finally:
        pd.set_option("future.infer_string", before)


def requirements() -> list[str]:
    """What MLflow's own server needs, named here because MLflow would load the model once more to find out."""
    return [f"{name}=={metadata.version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")]


def describe(converted: Converted) -> tuple[Any, Any]:
    """The MLflow signature, and the first rows as an example."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    layout, outputs = converted.layout, converted.onnx_model.graph.output
    if layout.style == "tensor":
        given = [output_tensor(value) for value in outputs]
        signature = ModelSignature(Schema([tensor_spec(layout)]), Schema(given))
        return signature, tensor_example(converted)
    taken = [
        ColSpec(column.kind, column.name if layout.named else None, required=not column.optional) for column in layout.columns
    ]
    signature = ModelSignature(Schema(taken), Schema([output_column(value) for value in outputs]))
    return signature, example_rows(converted.frame)


def example_rows(frame: Any) -> Any:
    """The first rows without missing texts, for which MLflow's own server has another word than the empty text."""
    texts = frame.select_dtypes(object)
    whole = frame[texts.notna().all(axis=1)].head(EXAMPLE_ROWS)
    if not len(whole):
        whole = frame.head(EXAMPLE_ROWS).fillna(dict.fromkeys(texts, ""))
    return whole.reset_index(drop=True)


def tensor_spec(layout: Layout) -> Any:
    """The tensor as the signature had it; numbers of 64 bits are what MLflow makes of JSON."""
    return layout.tensor


def tensor_example(converted: Converted) -> Any:
    """The first rows as one array of the signature's type."""
    import numpy as np

    layout = converted.layout
    if layout.inner == "tensor":
        return converted.frame[:EXAMPLE_ROWS]
    array = example_rows(converted.frame).to_numpy()
    array = array[:, 0] if len(layout.tensor.shape) == 1 else array
    return np.asarray(array, dtype=layout.tensor.type)


def output_tensor(value: Any) -> Any:
    """The specification of a tensor that the graph answers."""
    import numpy as np
    import onnx
    from mlflow.types import TensorSpec

    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    dims = value.type.tensor_type.shape.dim[1:]
    return TensorSpec(np.dtype(str) if kind.hasobject else kind, (-1, *(dim.dim_value or -1 for dim in dims)), value.name)


def output_column(value: Any) -> Any:
    """The type of an output in a row of the answer."""
    from mlflow.types import ColSpec
    from mlflow.types.schema import Map
    from onnx import TensorProto

    if not value.type.HasField("tensor_type"):
        return ColSpec(Map("float"), value.name)
    names = {TensorProto.INT64: "long", TensorProto.STRING: "string", TensorProto.DOUBLE: "double"}
    return ColSpec(names.get(value.type.tensor_type.elem_type, "float"), value.name)


class Flavor:
    """What `mlflow.models.Model.log` wants of a flavor, for a package of this module."""

    @staticmethod
    def save_model(path: str, mlflow_model: Any, converted: Converted, **_: Any) -> None:
        """Writes the package where MLflow wants it."""
        write(converted, Path(path), mlflow_model)


def log(converted: Converted, name: str, **options: Any) -> Any:
    """Logs the package to the active run, or to a new one; gives MLflow's `ModelInfo`."""
    models = need("mlflow.models")
    try:
        return models.Model.log(
            artifact_path=None, name=name, flavor=Flavor, converted=converted, await_registration_for=300, **options
        )
    except Exception as cause:  # MLflow's errors, and those of the network below it
        raise RegistryError(f"the package cannot be logged: {brief(cause)}", tracking_hint()) from cause


def register_version(converted: Converted, name: str) -> str:
    """Registers the package as a new version of `name`; aliases stay where they are. Gives `models:/NAME/VERSION`."""
    mlflow = need("mlflow")
    if not name or "/" in name or ":" in name:
        raise RegistryError(f"`{name}` is not a name of a registered model", "expected a name without `/` and `:`")
    begun = None
    try:
        if mlflow.active_run() is None:
            begun = mlflow.start_run(run_name=f"convert {name}")
    except Exception as cause:  # as above
        raise RegistryError(f"no run can be started: {brief(cause)}", tracking_hint()) from cause
    status = "FAILED"
    logged = None
    try:
        logged = log(converted, "model")
        tags = {TAG: converted.source.uri} if converted.source.uri else None
        version = mlflow.register_model(logged.model_uri, name, tags=tags)
        status = "FINISHED"
    except RegistryError:
        raise
    except Exception as cause:  # as above
        withdraw(logged)
        raise RegistryError(
            f"the version cannot be registered as `{name}`: {brief(cause)}",
            f"it needs the permission to create a model and its versions; {tracking_hint()}",
        ) from cause
    finally:
        if begun is not None:
            mlflow.end_run(status)
            if status == "FAILED":
                remove_run(begun.info.run_id)
    return f"models:/{name}/{version.version}"


def withdraw(logged: Any) -> None:
    """Takes back what was logged for a version that did not come to be."""
    mlflow = need("mlflow")
    try:
        if logged is not None and getattr(logged, "model_id", None):
            mlflow.MlflowClient().delete_logged_model(logged.model_id)
    except Exception as cause:  # the first error is the one that counts
        logging.getLogger("onstage").warning("the logged model stays: %s", brief(cause))


def remove_run(run: str) -> None:
    """Takes back the run of a version that did not come to be."""
    try:
        need("mlflow").MlflowClient().delete_run(run)
    except Exception as cause:  # as above
        logging.getLogger("onstage").warning("the run %s stays: %s", run, brief(cause))
