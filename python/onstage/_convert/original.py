"""A trained model and what the conversion asks about it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from onstage._convert.source import brief, xgboost_estimator
from onstage._extras import need
from onstage.errors import ConversionError

LIBRARIES = ("xgboost", "lightgbm", "catboost", "sklearn", "torch")


@dataclass
class Answer:
    """What a model says to some rows: labels `[rows]`, and numbers `[rows, n]`; one of the two may be missing."""

    labels: Any = None
    numbers: Any = None

    def __getitem__(self, rows: Any) -> Answer:
        return Answer(*(None if part is None else part[rows] for part in (self.labels, self.numbers)))


@dataclass
class Original:
    """A trained model. `kind` is `classifier`, `regressor`, `outlier`, `cluster` or `tensor` (PyTorch)."""

    model: Any
    library: str
    kind: str
    classes: list[Any] | None = None
    names: list[str] | None = None
    width: int | None = None
    # For each column the categories of pandas that a LightGBM booster holds by their codes.
    categories: dict[int, list[Any]] = field(default_factory=dict)
    text: bool = False
    # How many numbers a regression has for each row.
    targets: int = 1
    # Whether encoders know the missing text as `None`, which is another category than NaN to them.
    none_is_missing: bool = False

    @property
    def probabilistic(self) -> bool:
        """Whether it has a probability for each class."""
        return self.kind == "classifier" and hasattr(self.model, "predict_proba")

    def predict(self, frame: Any) -> Answer:
        """What the library says to a frame of the model's columns, in their order."""
        try:
            return self._predict(self.form(frame))
        except ConversionError:
            raise
        except Exception as cause:  # each library has errors of its own
            raise ConversionError(
                f"the original model cannot predict the data: {type(cause).__name__}: {brief(cause)}",
                "give rows of the form that it was trained on (`data=`, `--data`)",
            ) from cause

    def form(self, frame: Any) -> Any:
        """The rows as the library wants them: a frame by its own names, a matrix, or a list of texts."""
        import numpy as np
        import pandas as pd

        if self.text:
            return frame.iloc[:, 0].to_numpy(object)
        if self.kind == "tensor":
            return frame
        if self.categories:
            frame = frame.copy()
            for number, known in self.categories.items():
                frame.isetitem(number, pd.Categorical(frame.iloc[:, number], categories=known))
            return frame.set_axis(self.names, axis=1) if self.names else frame
        if self.none_is_missing:
            frame = frame.copy()
            for name in frame.select_dtypes(object):
                frame[name] = frame[name].where(frame[name].notna(), None)
        if self.names:
            return frame.set_axis(self.names, axis=1)
        kinds = {kind.kind for kind in frame.dtypes}
        return frame.to_numpy(object if "O" in kinds else np.float64)

    def _predict(self, rows: Any) -> Answer:
        import numpy as np

        if self.kind == "tensor":
            return Answer(numbers=predict_torch(self.model, rows))
        labels = np.asarray(self.model.predict(rows))
        if self.kind == "regressor":
            return Answer(numbers=labels.astype(float).reshape(len(labels), -1))
        if labels.size != len(labels):
            raise ConversionError("the model predicts several targets at once", "convert one model for each target")
        labels = labels.reshape(len(labels))
        if self.probabilistic:
            return Answer(labels, np.asarray(self.model.predict_proba(rows), dtype=float))
        if self.kind == "outlier":
            return Answer(labels, np.asarray(self.model.decision_function(rows), dtype=float).reshape(-1, 1))
        return Answer(labels)


def predict_torch(module: Any, rows: Any) -> Any:
    """What a module of PyTorch says: one tensor."""
    import numpy as np
    import torch

    with torch.no_grad():
        found = module(torch.from_numpy(rows.to_numpy(np.float32) if hasattr(rows, "to_numpy") else rows))
    if not isinstance(found, torch.Tensor):
        raise TypeError(f"the module returns a `{type(found).__name__}`, expected one tensor: wrap it in a module")
    return found.numpy()


class LightGbmBooster:
    """A plain LightGBM booster with the methods of an estimator."""

    def __init__(self, booster: Any) -> None:
        import numpy as np

        self.booster_ = booster
        self.n_features_in_ = booster.num_feature()
        self.feature_name_ = booster.feature_name()
        objective = str(booster.dump_model().get("objective", "")).split(" ")[0]
        self.classifier = objective in ("binary", "multiclass", "multiclassova")
        if self.classifier:
            self.classes_ = np.arange(max(2, booster.num_model_per_iteration()))
            self.predict_proba = self._probabilities

    def _probabilities(self, rows: Any) -> Any:
        import numpy as np

        found = self.booster_.predict(rows)
        return np.stack([1 - found, found], axis=1) if found.ndim == 1 else found

    def predict(self, rows: Any) -> Any:
        """Labels of a classifier, else the numbers."""
        if self.classifier:
            return self.classes_[self._probabilities(rows).argmax(axis=1)]
        return self.booster_.predict(rows)


def library_of(model: Any) -> str | None:
    """The library that a model is of, by its classes."""
    found = (base.__module__.split(".")[0] for base in type(model).__mro__)
    return next((name for name in found if name in LIBRARIES), None)


def recognise(given: Any) -> Original:
    """Which library a model is of, and what kind of model it is. What is given stays as it is."""
    library = library_of(given)
    if library is None:
        raise ConversionError(
            f"the model is a `{type(given).__module__}.{type(given).__qualname__}`",
            "expected a model of scikit-learn, XGBoost, LightGBM, CatBoost or PyTorch; a `dict` or a wrapper must be "
            "opened first",
        )
    if library == "torch":
        # A GraphModule of MLflow's default format knows no other mode and refuses `eval()`.
        return Original(given, library, "tensor")
    model = own_estimator(getattr(given, "best_estimator_", given), library)
    check_fitted(model, library)
    if not hasattr(model, "predict"):
        raise ConversionError(f"`{type(model).__name__}` has no `predict`", "convert the whole pipeline, not one step")
    kind = kind_of(model, library)
    classes = getattr(model, "classes_", None) if kind == "classifier" else None
    if isinstance(classes, list) and any(hasattr(each, "__len__") and not isinstance(each, str) for each in classes):
        raise ConversionError("the model predicts several targets at once", "convert one model for each target")
    names, width = features(model, library)
    original = Original(model, library, kind, None if classes is None else list(classes), names, width)
    original.categories = pandas_categories(model, library)
    original.text = bool(vectorizers(model))
    original.none_is_missing = knows_none(model)
    return original


def own_estimator(model: Any, library: str) -> Any:
    """An estimator for a plain booster; else a copy that the conversion may change."""
    if type(model).__name__ == "Booster":
        return LightGbmBooster(model) if library == "lightgbm" else xgboost_estimator(model)
    return copy.deepcopy(model) if library in ("sklearn", "xgboost") else model


def check_fitted(model: Any, library: str) -> None:
    """Stops at a model that was never trained."""
    fitted = True
    if library == "catboost":
        fitted = model.is_fitted()
    elif not isinstance(model, LightGbmBooster):
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        try:
            check_is_fitted(model)
            if library == "xgboost":
                model.get_booster()
        except NotFittedError:
            fitted = False
        except TypeError:  # a step that is not an estimator: its own error comes later
            pass
    if not fitted:
        raise ConversionError(f"`{type(model).__name__}` is not fitted", "call `fit` before you convert or log it")


def kind_of(model: Any, library: str) -> str:
    """What the answers of a model are."""
    if isinstance(model, LightGbmBooster):
        return "classifier" if model.classifier else "regressor"
    if library == "catboost":
        return catboost_kind(model)
    from sklearn.base import is_classifier, is_regressor

    if is_classifier(model):
        return "classifier"
    if is_regressor(model) or library in ("xgboost", "lightgbm"):
        return "regressor"
    if hasattr(model, "decision_function"):
        return "outlier"
    return "cluster"


def catboost_kind(model: Any) -> str:
    """A `CatBoost` that MLflow loaded says by its loss what it is."""
    loss = str(model.get_all_params().get("loss_function", ""))
    if loss.startswith("Multi") and loss not in ("MultiClass", "MultiClassOneVsAll"):
        raise ConversionError(f"the loss `{loss}` has several targets at once", "convert one model for each target")
    return "classifier" if loss in ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll") else "regressor"


def features(model: Any, library: str) -> tuple[list[str] | None, int | None]:
    """The names that the model knows its features by, unless it made them up, and their number."""
    names: Any
    if library == "lightgbm":
        names, width = model.feature_name_, model.n_features_in_
    elif library == "catboost":
        names, width = model.feature_names_, len(model.feature_names_)
    else:
        names, width = getattr(model, "feature_names_in_", None), getattr(model, "n_features_in_", None)
        if names is None and library == "xgboost":
            names = model.get_booster().feature_names
    names = None if names is None else [str(name) for name in names]
    if names and all(made_up(name, number) for number, name in enumerate(names)):
        names = None
    return names, width


def made_up(name: str, number: int) -> bool:
    """Whether a library called a feature by its number."""
    return name in (str(number), f"f{number}", f"Column_{number}")


def pandas_categories(model: Any, library: str) -> dict[int, list[Any]]:
    """The categories that LightGBM keeps beside its trees; other libraries' are refused."""
    if library == "lightgbm":
        booster = model.booster_
        known = booster.pandas_categorical or []
        if not known:
            return {}
        numbers = categorical_columns(booster)
        if len(numbers) != len(known):
            raise ConversionError(
                f"the booster knows categories of {len(known)} columns and has {len(numbers)} categorical features",
                "train a pipeline of `OrdinalEncoder` and the model instead",
            )
        return dict(zip(numbers, known, strict=True))
    for step in steps(model):
        named = f"`{type(step).__name__}`"
        if library_of(step) == "lightgbm" and getattr(step.booster_, "pandas_categorical", None):
            raise no_categories(named)
        if library_of(step) == "xgboost" and "c" in (step.get_booster().feature_types or []):
            raise no_categories(named)
        if library_of(step) == "catboost" and (step.get_cat_feature_indices() or step.get_text_feature_indices()):
            raise no_categories(named)
    return {}


def no_categories(named: str) -> ConversionError:
    """The error for a library whose categories no converter can follow."""
    return ConversionError(
        f"{named} was trained on categorical columns, whose codes are out of the converters' reach",
        "train a pipeline of `OrdinalEncoder` or `OneHotEncoder` and the model instead",
    )


def categorical_columns(booster: Any) -> list[int]:
    """The columns that LightGBM was told, or saw, to be categories."""
    text = booster.model_to_string(num_iteration=1)
    line = next(line for line in text.splitlines() if line.startswith("feature_infos="))
    infos = line.removeprefix("feature_infos=").split(" ")
    # A range in brackets is a number, a list with colons is categories; `none` is a column without use.
    given = next((line for line in text.splitlines() if line.startswith("[categorical_feature: ")), "")
    listed = given.removeprefix("[categorical_feature: ").removesuffix("]").split(",")
    if given and all(item.strip().isdigit() for item in listed):
        return sorted(int(item) for item in listed)
    return [number for number, info in enumerate(infos) if info != "none" and not info.startswith("[")]


def steps(model: Any) -> Iterator[Any]:
    """The model and all estimators inside it that can be seen: steps, transformers, estimators of ensembles."""
    yield model
    inner = [
        item[1]
        for part in ("steps", "transformer_list", "transformers_")
        for item in getattr(model, part, None) or []
        if not isinstance(item[1], str)
    ]
    for part in ("estimator", "estimator_", "best_estimator_", "final_estimator_", "regressor_", "transformer_"):
        inner.append(getattr(model, part, None))
    for part in ("estimators_", "calibrated_classifiers_"):
        found = getattr(model, part, None)
        # A forest has hundreds of trees, which have no steps.
        inner += list(found)[:32] if isinstance(found, (list, tuple)) else []
    for each in inner:
        if each is not None and not isinstance(each, (str, tuple, list)) and hasattr(each, "__dict__"):
            yield from steps(each)


def knows_none(model: Any) -> bool:
    """Whether an imputer looks for `None`, or an encoder has it among its categories."""
    for step in steps(model):
        if type(step).__name__ == "SimpleImputer" and step.missing_values is None:
            return True
        known = getattr(step, "categories_", None)
        if isinstance(known, list) and any(value is None for categories in known for value in list(categories)[-1:]):
            return True
    return False


def vectorizers(model: Any) -> list[Any]:
    """The steps that turn texts into numbers, if the model takes a list of texts."""
    found = list(steps(model))
    if any(type(step).__name__ == "ColumnTransformer" for step in found):
        return []
    return [step for step in found if hasattr(step, "token_pattern")]


def has_column_transformer(model: Any) -> bool:
    """Whether columns are picked by name inside."""
    need("sklearn")
    return any(type(step).__name__ == "ColumnTransformer" for step in steps(model))
