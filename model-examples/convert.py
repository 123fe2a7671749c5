"""Converts a trained model to an MLflow package with ONNX weights, and proves that it answers as the original does.

    python convert.py model.joblib --data sample.csv --output package

MODEL is a scikit-learn model or pipeline, an XGBoost or a LightGBM model (`.pkl`, `.pickle`, `.joblib`), a model file of
XGBoost (`.json`, `.ubj`) or LightGBM (`.txt`), or a PyTorch module (`.pt`, `.pth`; where PyTorch is installed).
SAMPLE holds rows that the model can predict: CSV with a header, or `.npy` for arrays.

Beside the package's own files stand `request.json` (the first rows as a request), `expected.json` (what MLflow's scoring
server answers to it) and `parity.json` (how far the ONNX model is from the original on all rows).

Unpickling runs code: convert only files that you trust.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

# Old enough for every engine.
OPSETS = {"": 17, "ai.onnx.ml": 3}
TOLERANCE = 1e-4
EXAMPLE_ROWS = 5
# Converters put whole models into their messages.
MESSAGE = 600
# What scikit-learn's default pattern finds, in the words of ONNX Runtime's `Tokenizer`.
DEFAULT_TOKENS = (r"(?u)\b\w\w+\b", r"[\p{L}\p{N}_]{2,}")


class ConversionError(Exception):
    """Why a model cannot be converted, and what to do about it."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


# --- Loading ---------------------------------------------------------------------------------------------------------


def load_model(path):
    """The model in a file; what the suffix says decides how it is read."""
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"there is no model file `{path}`")
    readers = {
        **dict.fromkeys([".pkl", ".pickle", ".joblib"], read_pickle),
        **dict.fromkeys([".json", ".ubj"], read_xgboost),
        ".txt": read_lightgbm,
        **dict.fromkeys([".pt", ".pth"], read_torch),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConversionError(f"`{path}` has the suffix `{path.suffix}`, expected one of {', '.join(readers)}")
    try:
        return reader(path)
    except ModuleNotFoundError as missing:
        raise ConversionError(
            f"`{path}` needs the Python package `{missing.name}`, which is not installed",
            f"install it in this environment, in the version that the model was trained with: `pip install {missing.name}`",
        ) from missing
    except ConversionError:
        raise
    except Exception as cause:  # each library has errors of its own for a broken file
        raise ConversionError(f"`{path}` cannot be read: {cause!r}") from cause


def read_pickle(path):
    import joblib

    return joblib.load(path)


def read_xgboost(path):
    import xgboost

    booster = xgboost.Booster(model_file=str(path))
    return xgboost_estimator(booster)


def xgboost_estimator(booster):
    """The estimator of scikit-learn's kind for a plain booster: only its objective tells classifiers apart."""
    import xgboost

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective.startswith("multi:softmax"):
        raise ConversionError("the objective is `multi:softmax`", "train with `multi:softprob`, which has probabilities")
    classifier = objective.startswith(("binary:", "multi:"))
    estimator = xgboost.XGBClassifier() if classifier else xgboost.XGBRegressor()
    with tempfile.TemporaryDirectory() as work:
        booster.save_model(f"{work}/model.ubj")
        estimator.load_model(f"{work}/model.ubj")
    return estimator


def read_lightgbm(path):
    import lightgbm

    return lightgbm.Booster(model_file=str(path))


def read_torch(path):
    import torch

    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError:
        return torch.load(path, map_location="cpu", weights_only=False).eval()


def load_data(path):
    """The sample: a frame from CSV, an array from `.npy`. A missing text is the empty text."""
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"there is no data file `{path}`")
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    try:
        frame = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as cause:
        raise ConversionError(f"`{path}` is no CSV with a header: {cause}") from cause
    if frame.empty:
        raise ConversionError(f"`{path}` holds no rows", "give rows that the model can predict: they show its parity")
    return frame


# --- What the model is -----------------------------------------------------------------------------------------------


class LightGbmBooster:
    """A plain LightGBM booster with the methods of an estimator."""

    def __init__(self, booster):
        self.booster = booster
        self.n_features_in_ = booster.num_feature()
        self.feature_names_in_ = np.array(booster.feature_name(), dtype=object)
        objective = booster.dump_model()["objective"].split()[0]
        if objective in ("binary", "multiclass", "multiclassova"):
            self.classes_ = np.arange(max(2, booster.num_model_per_iteration()))
            self.predict_proba = self._probabilities

    def _probabilities(self, rows):
        found = self.booster.predict(rows)
        return np.stack([1 - found, found], axis=1) if found.ndim == 1 else found

    def predict(self, rows):
        if hasattr(self, "classes_"):
            return self.classes_[self._probabilities(rows).argmax(axis=1)]
        return self.booster.predict(rows)


@dataclass
class Original:
    """A trained model with what the conversion asks about it."""

    model: object
    library: str
    classes: np.ndarray | None = None
    names: list | None = None
    width: int | None = None

    @property
    def probabilistic(self):
        return self.classes is not None and hasattr(self.model, "predict_proba")


def recognise(model):
    """Which library a model is of, and what kind of model it is."""
    library = next((base.__module__.split(".")[0] for base in type(model).__mro__ if known(base)), None)
    if library is None:
        raise ConversionError(
            f"the model is a `{type(model).__module__}.{type(model).__qualname__}`",
            "expected a model of scikit-learn, XGBoost, LightGBM or PyTorch; a `dict` or a wrapper must be opened first",
        )
    if library == "torch":
        return Original(model, library)
    if type(model).__name__ == "Booster":
        model = LightGbmBooster(model) if library == "lightgbm" else xgboost_estimator(model)
    model = getattr(model, "best_estimator_", model)
    if not hasattr(model, "predict"):
        raise ConversionError(f"`{type(model).__name__}` has no `predict`", "convert the whole pipeline, not a step of it")
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list):
        raise ConversionError("the model predicts several targets at once", "convert one model per target")
    refuse_categories(model)
    names = getattr(model, "feature_names_in_", None)
    if names is None and library == "xgboost":
        names = model.get_booster().feature_names
    return Original(
        model, library, classes, None if names is None else list(names), getattr(model, "n_features_in_", None)
    )


def refuse_categories(model):
    """Stops at boosted trees with categories of pandas: no ONNX converter knows the codes that they were given."""
    for step in steps(model):
        booster = getattr(step, "booster_", getattr(step, "booster", None))
        categories = getattr(booster, "pandas_categorical", None)
        if type(step).__module__.startswith("xgboost"):
            categories = "c" in (step.get_booster().feature_types or [])
        if categories:
            raise ConversionError(
                f"`{type(step).__name__}` was trained on columns of pandas' type `category`, which ONNX converters cannot follow",
                "train a pipeline of `OrdinalEncoder` or `OneHotEncoder` and the model instead",
            )


def known(base):
    return base.__module__.split(".")[0] in ("xgboost", "lightgbm", "sklearn", "torch")


def steps(model):
    """The model and all estimators inside it."""
    yield model
    for inner in [*getattr(model, "steps", []), *getattr(model, "transformer_list", []), *getattr(model, "transformers_", [])]:
        if not isinstance(inner[1], str):
            yield from steps(inner[1])


# --- What the graph takes --------------------------------------------------------------------------------------------


@dataclass
class Inputs:
    """The sample as the original, the graph and a client see it."""

    original: object
    feeds: dict
    layout: str  # `matrix`, `columns` or `text`
    frame: pd.DataFrame
    notes: list = field(default_factory=list)


def plan_inputs(original, data, number):
    """How the graph takes the sample: as one matrix, as one input per column, or as one list of texts."""
    frame = select(original, data if isinstance(data, pd.DataFrame) else pd.DataFrame(np.asarray(data)))
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    notes = []
    for name in texts:
        if frame[name].isna().any():
            notes.append(f"column `{name}` has missing texts: they are the empty text, also in a request")
        frame[name] = frame[name].astype(object).where(frame[name].notna(), "").map(str)
    if vectorizers(original.model):
        if len(frame.columns) != 1:
            raise ConversionError(f"a text model takes one column, found {len(frame.columns)}", "keep only the texts in the data")
        column = frame.iloc[:, 0].map(str)
        return Inputs(column.to_numpy(object), {"text": column.to_numpy(object)}, "text", frame, notes)
    seen = frame if original.names and set(original.names) <= set(frame.columns) else frame.to_numpy()
    if texts or (original.names and any(type(step).__name__ == "ColumnTransformer" for step in steps(original.model))):
        if original.names is None:
            raise ConversionError("the model was fitted without column names, but the data hold texts", "fit it on a DataFrame")
        kinds = {name: object if name in texts else number for name in frame}
        feeds = {name: frame[[name]].to_numpy(kind) for name, kind in kinds.items()}
        return Inputs(frame, feeds, "columns", frame, notes)
    return Inputs(seen, {"features": frame.to_numpy(number)}, "matrix", frame, notes)


def select(original, frame):
    """The columns that the model was trained on, in its order; others, such as the target, are left out."""
    # LightGBM writes `_` where a name has a space.
    frame = frame.rename(columns={c: str(c).replace(" ", "_") for c in frame if str(c).replace(" ", "_") in (original.names or [])})
    if original.names and set(original.names) <= set(frame.columns):
        return frame[original.names].copy()
    # Names that LightGBM and XGBoost make up say nothing about the data.
    made_up = original.names and all(str(name).lstrip("Columnf_").isdigit() for name in original.names)
    if original.names and not made_up and not isinstance(frame.columns, pd.RangeIndex):
        missing = [name for name in original.names if name not in frame.columns]
        raise ConversionError(
            f"the data lack the columns {', '.join(f'`{name}`' for name in missing)}",
            f"the model was trained on {', '.join(map(str, original.names))}",
        )
    if original.width not in (None, len(frame.columns)):
        raise ConversionError(
            f"the data have {len(frame.columns)} columns, the model was trained on {original.width}",
            "leave out the target and other columns that are no features",
        )
    return frame.copy()


def vectorizers(model):
    """The steps that turn texts into numbers, if the model takes a list of texts."""
    if any(type(step).__name__ == "ColumnTransformer" for step in steps(model)):
        return []
    return [step for step in steps(model) if hasattr(step, "token_pattern")]


# --- Conversion ------------------------------------------------------------------------------------------------------


def register_boosters():
    """Teaches skl2onnx the estimators of the boosting libraries that are installed, also inside pipelines."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as classifier
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as regressor

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if "xgboost" in sys.modules:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        update_registered_converter(xgboost.XGBClassifier, "XgbClassifier", classifier, convert_xgboost, options=options)
        update_registered_converter(xgboost.XGBRegressor, "XgbRegressor", regressor, convert_xgboost)
    if "lightgbm" in sys.modules:
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(lightgbm.LGBMClassifier, "LgbmClassifier", classifier, convert_lightgbm, options=options)
        update_registered_converter(
            lightgbm.LGBMRegressor, "LgbmRegressor", regressor, convert_lightgbm, options={"split": None}
        )


def to_onnx(original, inputs, zipmap, name):
    """The graph of a model that is not PyTorch's."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    kinds = {"f": FloatTensorType, "d": DoubleTensorType, "O": StringTensorType}
    types = [(feed, kinds[rows.dtype.char]([None, *rows.shape[1:]])) for feed, rows in inputs.feeds.items()]
    try:
        if isinstance(original.model, LightGbmBooster):
            from onnxmltools import convert_lightgbm
            from onnxmltools.convert.common.data_types import FloatTensorType
            from onnxmltools.convert.common.onnx_ex import get_maximum_opset_supported

            types = [(feed, FloatTensorType([None, rows.shape[1]])) for feed, rows in inputs.feeds.items()]
            zipped = {"zipmap": zipmap} if original.probabilistic else {}
            opset = min(OPSETS[""], get_maximum_opset_supported())
            return convert_lightgbm(original.model.booster, name, types, target_opset=opset, **zipped)
        import skl2onnx

        register_boosters()
        hide_names(original.model)
        options = {id(step): {"tokenexp": tokens(step)} for step in vectorizers(original.model)}
        if original.probabilistic:
            options[id(original.model)] = {"zipmap": zipmap}
        with booleans_as_integers():
            return skl2onnx.to_onnx(
                original.model, name=name, initial_types=types, options=options, target_opset=OPSETS
            )
    except ModuleNotFoundError as missing:
        raise ConversionError(f"the converter `{missing.name}` is not installed", f"`pip install {missing.name}`") from missing
    except Exception as cause:  # the converters raise anything from KeyError to RuntimeError
        raise ConversionError(
            f"the converter of {original.library} failed: {type(cause).__name__}: {str(cause)[:MESSAGE]}",
            "not every estimator has an ONNX form: replace the step that the message names, for example a "
            "`FunctionTransformer` or an estimator of your own",
        ) from cause


@contextlib.contextmanager
def booleans_as_integers():
    """skl2onnx 1.20 gives booleans for integers (histogram boosting's missing values), which onnx 1.23 refuses."""
    from skl2onnx.common import _container

    given = _container.make_node

    def make_node(*arguments, **attributes):
        for name, value in attributes.items():
            if isinstance(value, list) and any(isinstance(item, (bool, np.bool_)) for item in value):
                attributes[name] = [int(item) for item in value]
        return given(*arguments, **attributes)

    _container.make_node = make_node
    try:
        yield
    finally:
        _container.make_node = given


def tokens(vectorizer):
    given = vectorizer.token_pattern
    return DEFAULT_TOKENS[1] if given == DEFAULT_TOKENS[0] else given


def hide_names(model):
    """Forgets the names of XGBoost's features: its converter wants f0, f1, … and fails at others."""
    for step in steps(model):
        if type(step).__module__.startswith("xgboost"):
            step.get_booster().feature_names = None


def torch_to_onnx(module, example):
    import io

    import onnx
    import torch

    written = io.BytesIO()
    torch.onnx.export(
        module, (torch.from_numpy(example),), written, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}, opset_version=OPSETS[""], dynamo=False,
    )
    return onnx.load_model_from_string(written.getvalue())


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


# --- Parity ----------------------------------------------------------------------------------------------------------


def compare(reference, found, tolerance):
    """How far the ONNX model is from the original, as the content of `parity.json`."""
    labels, numbers = reference
    report = {"rows": len(found[0]), "tolerance": tolerance, "max_difference": None, "rows_over_tolerance": 0}
    over = np.zeros(len(found[0]), bool)
    if numbers is not None:
        got = zipped(found[-1], numbers.shape[1]) if isinstance(found[-1], list) else found[-1]
        got, numbers = np.reshape(got, (len(numbers), -1)).astype(float), numbers.reshape(len(numbers), -1).astype(float)
        # Relative where numbers are large, absolute where they are small.
        difference = np.abs(got - numbers) / np.maximum(1.0, np.abs(numbers))
        difference[np.isnan(got) & np.isnan(numbers)] = 0.0
        report["max_difference"] = float(difference.max())
        over |= ~(difference <= tolerance).all(axis=1)
    if labels is not None:
        agree = np.array([str(a) == str(b) or a == b for a, b in zip(labels, np.ravel(found[0]))])
        report["labels_agree"] = int(agree.sum())
        if numbers is not None:
            best = np.sort(numbers, axis=1)
            # Between two classes that are as likely, either is right.
            agree |= best[:, -1] - best[:, -2] <= 2 * tolerance
        over |= ~agree
    report["rows_over_tolerance"] = int(over.sum())
    return report


def zipped(rows, width):
    found = [list(row.values()) for row in rows]
    assert all(len(row) == width for row in found)
    return np.array(found)


def hint_for_parity(report, inputs, float64):
    if float64 or inputs.layout == "text":
        return "a step may convert inexactly: convert the pipeline step by step to find it"
    return (
        "the graph computes in float32, the original in float64: where a value lies beside a threshold of a tree, or is larger "
        "than 16,777,216, another leaf is taken. Try `--float64` (scikit-learn only), or train on `astype(numpy.float32)`"
    )


# --- The package -----------------------------------------------------------------------------------------------------


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
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    first = {name: rows[:EXAMPLE_ROWS] for name, rows in inputs.feeds.items()}
    if columns:
        example = inputs.frame.head(EXAMPLE_ROWS).astype(float).rename(columns=str)
        schema = Schema([ColSpec("double", name) for name in example])
        outputs = Schema([ColSpec(column_type(value), value.name) for value in onnx_model.graph.output])
        table = json.loads(example.to_json(orient="split", index=False, double_precision=15))
        return ModelSignature(schema, outputs), example, {"dataframe_split": table}
    specs = {name: (np.dtype(str) if rows.dtype == object else rows.dtype, (-1, *rows.shape[1:])) for name, rows in first.items()}
    if inputs.layout == "columns":
        schema, example = Schema([TensorSpec(*spec, name) for name, spec in specs.items()]), first
    else:
        # Unnamed: a request is a plain list.
        schema, example = Schema([TensorSpec(*spec) for spec in specs.values()]), next(iter(first.values()))
    text = lambda rows: rows.astype(str) if rows.dtype == object else rows
    example = {name: text(rows) for name, rows in example.items()} if isinstance(example, dict) else text(example)
    outputs = [output_spec(value) for value in onnx_model.graph.output]
    signature = ModelSignature(schema, Schema(outputs) if all(outputs) else None)
    return signature, example, {"inputs": plain(example)}


def output_spec(value):
    """The specification of a graph's output; none for a list of maps, which MLflow's tensors cannot say."""
    import onnx
    from mlflow.types import TensorSpec

    if not value.type.HasField("tensor_type"):
        return None
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    dims = value.type.tensor_type.shape.dim[1:]
    return TensorSpec(np.dtype(str) if kind == object else kind, (-1, *(dim.dim_value or -1 for dim in dims)), value.name)


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


def convert(model, data, *, name="model", zipmap=None, columns=False, float64=False, tolerance=TOLERANCE):
    """Converts a trained model and compares it with the original on `data`, a DataFrame or an array.

    `zipmap`: probabilities as one map per row instead of one tensor. `columns`: an MLflow column signature instead of a
    tensor signature; a classifier then needs the maps. Raises `ConversionError`, also if the two differ by more than
    `tolerance`. XGBoost models forget the names of their features.
    """
    import onnxruntime

    original = recognise(model)
    if columns and original.probabilistic and zipmap is False:
        raise ConversionError(
            "label and probabilities cannot be answered under a column signature: MLflow flattens every output to one value per row",
            "convert with `--zipmap`, which makes the probabilities one value, or leave out `--columns`",
        )
    zipmap = original.probabilistic and bool(columns if zipmap is None else zipmap)
    if original.library == "torch":
        array = np.asarray(data, dtype=np.float32)
        inputs = Inputs(array, {"input": array}, "matrix", pd.DataFrame(array.reshape(len(array), -1)))
    else:
        inputs = plan_inputs(original, data, np.float64 if float64 else np.float32)
    if columns and inputs.layout != "matrix":
        raise ConversionError(
            "a column signature sends texts and mixed columns as lists, and the graph takes tensors of shape [-1, 1]",
            "leave out `--columns`: a tensor signature takes the same tables",
        )
    # Before the conversion, which takes the names off XGBoost's features.
    reference = predictions(original, inputs.original)
    onnx_model = torch_to_onnx(original.model, inputs.feeds["input"]) if original.library == "torch" else to_onnx(original, inputs, zipmap, name)
    onnx_model = only_used_outputs(original, tidy(onnx_model))
    try:
        session = onnxruntime.InferenceSession(onnx_model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = session.run(None, inputs.feeds)
    except Exception as cause:  # ONNX Runtime's errors have no common base
        hint = "only scikit-learn's converters know float64: leave out `--float64`" if float64 else None
        raise ConversionError(f"the graph does not run: {cause}", hint) from cause
    parity = {"library": original.library, **compare(reference, found, tolerance), "notes": inputs.notes}
    if parity["rows_over_tolerance"]:
        raise ConversionError(
            f"the ONNX model differs from the original in {parity['rows_over_tolerance']} of {parity['rows']} rows: {summary(parity)}",
            hint_for_parity(parity, inputs, float64),
        )
    signature, example, request = describe(inputs, onnx_model, columns)
    package = {
        "onnx_model": onnx_model, "signature": signature, "input_example": example, "pip_requirements": requirements(),
        "onnx_execution_providers": ["CPUExecutionProvider"], "save_as_external_data": False,
    }
    return Converted(package, request, parity)


def predictions(original, rows):
    """The original's labels, none for a regression, and its numbers, none for a classifier without probabilities."""
    if original.library == "torch":
        import torch

        with torch.no_grad():
            found = original.model(torch.from_numpy(rows))
        if not isinstance(found, torch.Tensor):
            raise ConversionError(f"the module returns a `{type(found).__name__}`, expected one tensor", "wrap it in a module")
        return None, found.numpy()
    try:
        labels = np.ravel(original.model.predict(rows))
        if original.classes is None:
            return None, np.asarray(labels, float)
        return labels, np.asarray(original.model.predict_proba(rows)) if original.probabilistic else None
    except Exception as cause:  # each library has errors of its own
        raise ConversionError(
            f"the original model cannot predict the data: {cause}", "give rows of the form that it was trained on"
        ) from cause


def only_used_outputs(original, onnx_model):
    """Drops the scores of a classifier without probabilities: they are on no scale that a client could know."""
    if original.classes is not None and not original.probabilistic:
        del onnx_model.graph.output[1:]
    return onnx_model


def summary(parity):
    parts = []
    if "labels_agree" in parity:
        parts.append(f"{parity['labels_agree']} of {parity['rows']} labels agree")
    if parity["max_difference"] is not None:
        parts.append(f"largest difference {parity['max_difference']:.2g} (tolerance {parity['tolerance']:g})")
    return ", ".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path, help="the trained model")
    parser.add_argument("--data", metavar="SAMPLE", type=Path, required=True, help="rows to compare on")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="where the package is written")
    parser.add_argument("--name", help="name of the graph (default: the name of DIR)")
    parser.add_argument(
        "--zipmap", action=argparse.BooleanOptionalAction, help="probabilities as one map per row (default: with --columns)"
    )
    parser.add_argument("--columns", action="store_true", help="a signature of named columns instead of tensors")
    parser.add_argument("--float64", action="store_true", help="compute in float64 (scikit-learn only)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"largest difference (default: {TOLERANCE:g})")
    arguments = parser.parse_args()
    output = arguments.output
    warnings.simplefilter("ignore", FutureWarning)
    try:
        if output.exists() and not (output / "MLmodel").exists() and any(output.iterdir()):
            raise ConversionError(f"`{output}` holds other files", "name a new directory, or one with a package to renew")
        converted = convert(
            load_model(arguments.model), load_data(arguments.data), name=arguments.name or output.resolve().name,
            zipmap=arguments.zipmap, columns=arguments.columns, float64=arguments.float64, tolerance=arguments.tolerance,
        )
        converted.save(output)
    except ConversionError as error:
        print(f"error: {error}" + (f"\n\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(1)
    for note in converted.parity["notes"]:
        print(f"note: {note}")
    print(f"parity on {converted.parity['rows']} rows: {summary(converted.parity)}")
    print(f"serve it: onstage serve {output}")


if __name__ == "__main__":
    main()
