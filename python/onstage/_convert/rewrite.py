"""Steps that skl2onnx 1.20 converts wrongly or not at all, in a form that it knows and that means the same."""

from __future__ import annotations

import copy
from typing import Any

from onstage._convert.original import steps


def rewritten(model: Any) -> Any:
    """A copy of the model that the converter understands."""
    model = copy.deepcopy(model)
    for step in steps(model):
        whole_classes(step)
        missing_texts(step)
        discriminant(step)
    return model


def whole_classes(step: Any) -> None:
    """Gives labels that are numbers of few bits, or booleans, the integers that every converter takes."""
    import numpy as np

    holders = [step, *(inner for name, inner in vars(step).items() if name in ("le_", "_label_encoder", "label_binarizer_"))]
    for holder in holders:
        classes = vars(holder).get("classes_")
        if isinstance(classes, np.ndarray) and classes.dtype.kind in "biu" and classes.dtype != np.int64:
            holder.classes_ = classes.astype(np.int64)


def missing_texts(step: Any) -> None:
    """Gives encoders the empty text for the missing one: that is what a graph gets."""
    import numpy as np

    known = vars(step).get("categories_")
    if not isinstance(known, list):
        return
    for at, categories in enumerate(known):
        if isinstance(categories, np.ndarray) and categories.dtype == object:
            missing = np.array([value is None or value != value for value in categories])
            if missing.any() and any(isinstance(value, str) for value in categories):
                known[at] = np.where(missing, "", categories)


def discriminant(step: Any) -> None:
    """A linear discriminant of two classes is a logistic regression; its converter doubles the scores."""
    if type(step).__name__ != "LinearDiscriminantAnalysis" or len(step.classes_) != 2:
        return
    from sklearn.linear_model import LogisticRegression

    fitted = {name: vars(step)[name] for name in ("coef_", "intercept_", "classes_", "n_features_in_")}
    step.__class__ = LogisticRegression
    step.__dict__ = {**vars(LogisticRegression()), **fitted}
