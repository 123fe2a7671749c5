"""Ensembles of whole pipelines, brought into a form that skl2onnx knows: columns first, then the ensemble.

`CalibratedClassifierCV(make_pipeline(ColumnTransformer(…), …))` and its like hold several pipelines, each with columns of
its own. skl2onnx picks columns by name only at the beginning of the whole model. So all the column transformers become
one, side by side, and each pipeline begins with a cut-out of what its own made.
"""

from __future__ import annotations

import copy
from typing import Any


def lifted(model: Any) -> Any:
    """The model with its columns in front; the same model where there is nothing to lift."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    inner = estimators(model)
    if not inner or getattr(model, "passthrough", False):
        return model
    if not all(isinstance(each, Pipeline) and isinstance(each.steps[0][1], ColumnTransformer) for each in inner):
        return model
    before = [each.steps[0][1] for each in inner]
    widths = [max(piece.stop for piece in each.output_indices_.values()) for each in before]
    pipelines = []
    for number, each in enumerate(inner):
        begin = sum(widths[:number])
        cut = cut_out(begin, begin + widths[number], sum(widths))
        pipelines.append(Pipeline([("columns", cut), *each.steps[1:]]))
    return Pipeline([("columns", side_by_side(before)), ("model", replaced(model, pipelines))])


def estimators(model: Any) -> list[Any]:
    """The fitted estimators of an ensemble that may be whole pipelines."""
    if hasattr(model, "calibrated_classifiers_"):
        return [each.estimator for each in model.calibrated_classifiers_]
    if type(model).__name__.startswith(("Stacking", "Voting")):
        return list(model.estimators_)
    return []


def replaced(model: Any, inner: list[Any]) -> Any:
    """A copy of the ensemble with other estimators."""
    if hasattr(model, "calibrated_classifiers_"):
        return averaged(model, inner)
    changed = copy.copy(model)
    changed.estimators_ = inner
    return changed


def averaged(model: Any, inner: list[Any]) -> Any:
    """A calibrated classifier as the average of its folds, each a pipeline that ends with a calibrated classifier.

    Calibration needs the scores of the last step itself, which skl2onnx does not ask a pipeline for.
    """
    from sklearn.ensemble import VotingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import LabelEncoder

    folds = []
    for pipeline, calibrated in zip(inner, model.calibrated_classifiers_, strict=True):
        one, fold = copy.copy(calibrated), copy.copy(model)
        one.estimator = pipeline.steps[-1][1]
        fold.calibrated_classifiers_ = [one]
        folds.append(Pipeline([*pipeline.steps[:-1], ("calibrated", fold)]))
    voting = VotingClassifier([(str(number), fold) for number, fold in enumerate(folds)], voting="soft")
    voting.estimators_, voting.classes_ = folds, model.classes_
    voting.le_ = LabelEncoder().fit(model.classes_)
    return voting


def side_by_side(transformers: list[Any]) -> Any:
    """One column transformer that does what several do, one behind the other."""
    merged = copy.copy(transformers[0])
    merged.transformers_ = [
        (f"{number} {name}", step, columns)
        for number, each in enumerate(transformers)
        for name, step, columns in each.transformers_
    ]
    return merged


def cut_out(begin: int, end: int, width: int) -> Any:
    """A transformer that passes the columns from `begin` to `end`, in a form that a nested pipeline may begin with."""
    import numpy as np
    from sklearn.feature_selection import VarianceThreshold

    places = np.arange(width)
    cut = VarianceThreshold()
    cut.variances_ = np.where((places >= begin) & (places < end), 1.0, 0.0)
    cut.n_features_in_ = width
    return cut
