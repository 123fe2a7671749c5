"""What `convert.py` reads: a trained model, rows that it can predict, and the form in which a graph will take them."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd


class ConversionError(Exception):
    """Why a model cannot be converted, and what to do about it."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


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
        raise ConversionError(
            "the objective is `multi:softmax`", "train with `multi:softprob`, which has probabilities"
        )
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
    from sklearn.base import is_classifier, is_regressor

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
        raise ConversionError(
            f"`{type(model).__name__}` has no `predict`", "convert the whole pipeline, not a step of it"
        )
    classes = getattr(model, "classes_", None)
    if library == "sklearn" and not (is_classifier(model) or is_regressor(model)):
        raise ConversionError(
            f"`{type(model).__name__}` is neither a classifier nor a regression",
            "clusters and outliers have answers of their own form: convert those with skl2onnx",
        )
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
    for inner in [
        *getattr(model, "steps", []),
        *getattr(model, "transformer_list", []),
        *getattr(model, "transformers_", []),
    ]:
        if not isinstance(inner[1], str):
            yield from steps(inner[1])


@dataclass
class Inputs:
    """The sample as the original, the graph and a client see it."""

    original: object
    feeds: dict
    layout: str  # `matrix`, `columns`, `text` or `tensor`
    frame: pd.DataFrame
    notes: list = field(default_factory=list)


def plan_inputs(original, data, number):
    """How the graph takes the sample: as one matrix, as one input per column, or as one list of texts."""
    if original.library == "torch":
        array = np.asarray(data, dtype=np.float32)
        return Inputs(array, {"input": array}, "tensor", pd.DataFrame(array.reshape(len(array), -1)))
    frame = select(original, data if isinstance(data, pd.DataFrame) else pd.DataFrame(np.asarray(data)))
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    notes = []
    for name in texts:
        if frame[name].isna().any():
            notes.append(f"column `{name}` has missing texts: they are the empty text, also in a request")
        frame[name] = frame[name].astype(object).where(frame[name].notna(), "").map(str)
    if vectorizers(original.model):
        if len(frame.columns) != 1:
            raise ConversionError(
                f"a text model takes one column, found {len(frame.columns)}", "keep only the texts in the data"
            )
        column = frame.iloc[:, 0].map(str)
        return Inputs(column.to_numpy(object), {"text": column.to_numpy(object)}, "text", frame, notes)
    seen = frame if original.names and set(original.names) <= set(frame.columns) else frame.to_numpy()
    if texts or (original.names and any(type(step).__name__ == "ColumnTransformer" for step in steps(original.model))):
        if original.names is None:
            raise ConversionError(
                "the model was fitted without column names, but the data hold texts", "fit it on a DataFrame"
            )
        kinds = {name: object if name in texts else number for name in frame}
        feeds = {name: frame[[name]].to_numpy(kind) for name, kind in kinds.items()}
        return Inputs(frame, feeds, "columns", frame, notes)
    return Inputs(seen, {"features": frame.to_numpy(number)}, "matrix", frame, notes)


def select(original, frame):
    """The columns that the model was trained on, in its order; others, such as the target, are left out."""
    # LightGBM writes `_` where a name has a space.
    plain = {name: str(name).replace(" ", "_") for name in frame}
    frame = frame.rename(columns={name: other for name, other in plain.items() if other in (original.names or [])})
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


def predictions(original, rows):
    """The original's labels, none for a regression, and its numbers, none for a classifier without probabilities."""
    if original.library == "torch":
        import torch

        with torch.no_grad():
            found = original.model(torch.from_numpy(rows))
        if not isinstance(found, torch.Tensor):
            raise ConversionError(
                f"the module returns a `{type(found).__name__}`, expected one tensor", "wrap it in a module"
            )
        return None, found.numpy()
    try:
        labels = np.asarray(original.model.predict(rows))
        if original.classes is None:
            return None, labels.astype(float)
        return labels.ravel(), np.asarray(original.model.predict_proba(rows)) if original.probabilistic else None
    except Exception as cause:  # each library has errors of its own
        raise ConversionError(
            f"the original model cannot predict the data: {cause}", "give rows of the form that it was trained on"
        ) from cause
